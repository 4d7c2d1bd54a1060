// SPDX-License-Identifier: Apache-2.0
#include "base/json.hpp"

#include "base/error.hpp"
#include "base/file.hpp"

#include <set>
#include <string>
#include <vector>

namespace triphase {
namespace {

/// Deeper values would overflow the stack when they are written again.
constexpr int kMaxDepth = 256;

}  // namespace

Json read_json(const std::filesystem::path& path, std::int64_t max_bytes) {
  const std::string text = read_file(path, max_bytes);
  std::vector<std::set<std::string>> open_objects;
  const auto check = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    const bool opens_object = event == Json::parse_event_t::object_start;
    const bool opens = opens_object || event == Json::parse_event_t::array_start;
    TRIPHASE_CHECK(DataError, !opens || depth < kMaxDepth, "'", path.string(),
                   "' is nested deeper than ", kMaxDepth,
                   " levels. Check that it is the right file.");
    if (opens_object) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      TRIPHASE_CHECK(DataError, open_objects.back().insert(key).second, "'", path.string(),
                     "' has the key '", key, "' twice in one object. Write the file again.");
    }
    return true;
  };
  try {
    return Json::parse(text, check);
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
