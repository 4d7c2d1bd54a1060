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
/// The library looks through an object's keys one by one for each new one.
constexpr std::size_t kMaxKeys = 16'384;

/// Looks through a text before a value is made of it: linear in its length, as the library's own
/// callback is not (it looks through a list again after each object in it).
class Checker final : public nlohmann::json_sax<Json> {
 public:
  Checker(std::string path, std::size_t num_bytes) : path_(std::move(path)), num_bytes_(num_bytes) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool start_object(std::size_t) override {
    enter();
    open_objects_.emplace_back();
    return true;
  }
  bool start_array(std::size_t) override {
    enter();
    return true;
  }
  bool end_object() override {
    --depth_;
    open_objects_.pop_back();
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(string_t& key) override {
    TRIPHASE_CHECK(DataError, open_objects_.back().size() < kMaxKeys, "'", path_,
                   "' has an object of more than ", kMaxKeys,
                   " keys. Check that it is the right file.");
    TRIPHASE_CHECK(DataError, open_objects_.back().insert(key).second, "'", path_,
                   "' has the key '", key, "' twice in one object. Write the file again.");
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw DataError(str("'", path_, "' is not JSON: at byte ", byte, " of ", num_bytes_, ": ",
                        error.what(), ". Write the file again."));
  }

 private:
  void enter() {
    TRIPHASE_CHECK(DataError, depth_ < kMaxDepth, "'", path_, "' is nested deeper than ", kMaxDepth,
                   " levels. Check that it is the right file.");
    ++depth_;
  }

  std::string path_;
  std::size_t num_bytes_;
  int depth_ = 0;
  std::vector<std::set<std::string>> open_objects_;
};

}  // namespace

Json read_json(const std::filesystem::path& path, std::int64_t max_bytes) {
  const std::string text = read_file(path, max_bytes);
  Checker checker(path.string(), text.size());
  Json::sax_parse(text, &checker);
  return Json::parse(text);
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
