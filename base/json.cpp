// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"

#include "base/error.hpp"
#include "base/file.hpp"

namespace triphase {
namespace {

/// Deeper values would overflow the stack when they are written again.
constexpr int kMaxDepth = 256;

}  // namespace

Json read_json(const std::filesystem::path& path, std::int64_t max_bytes) {
  const std::string text = read_file(path, max_bytes);
  const auto check_depth = [&](int depth, Json::parse_event_t, const Json&) {
    TRIPHASE_CHECK(DataError, depth <= kMaxDepth, "'", path.string(), "' is nested deeper than ",
                   kMaxDepth, " levels. Check that it is the right file.");
    return true;
  };
  try {
    return Json::parse(text, check_depth);
  } catch (const Json::parse_error& error) {
    throw DataError(str("'", path.string(), "' is not JSON: at byte ", error.byte, " of ",
                        text.size(), ": ", error.what(), ". Write the file again."));
  }
}

void write_json(const std::filesystem::path& path, const Json& value) {
  std::string text;
  try {
    text = value.dump(2) + "\n";
  } catch (const Json::type_error& error) {  // text that is not UTF-8
    throw DataError(str("cannot write '", path.string(), "' as JSON: ", error.what(),
                        ". Names must be UTF-8."));
  }
  write_file_atomically(path, text);
}

}  // namespace triphase
