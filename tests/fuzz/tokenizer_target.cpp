// SPDX-License-Identifier: Apache-2.0
// Input: vocab.json, a zero byte, merges.txt. Whatever tokenizer is accepted must give texts back
// and keep the ids of specials to the two ends.
#include <algorithm>
#include <array>
#include <string>

#include "data/tokenizer.hpp"
#include "tests/fuzz/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace triphase;
  static const std::array<std::string, 3> kTexts{
      "No focal lesion in the liver . 3 . 2 cm", "</s><s> a report that ends itself <pad><mask>",
      "\xC3\xA9 \xE8\x82\x9D \x01\n  " + std::string(100, 'a')};
  const std::string_view input = fuzz::text_of(data, size);
  const std::size_t zero = std::min(input.find('\0'), input.size());
  const auto folder = fuzz::scratch_file("vocab.json", input.substr(0, zero)).parent_path();
  static_cast<void>(
      fuzz::scratch_file("merges.txt", input.substr(std::min(zero + 1, input.size()))));
  fuzz::expect_clean_end([&] {
    const data::Tokenizer tokenizer(folder);
    for (const std::string& text : kTexts) {
      const auto ids = tokenizer.encode(text, 1024);
      fuzz::require(tokenizer.decode(ids) == text, "a text is given back");
      fuzz::require(ids.front() == tokenizer.bos_id() && ids.back() == tokenizer.eos_id() &&
                        std::count(ids.begin(), ids.end(), tokenizer.bos_id()) == 1 &&
                        std::count(ids.begin(), ids.end(), tokenizer.eos_id()) == 1 &&
                        std::count(ids.begin(), ids.end(), tokenizer.pad_id()) == 0,
                    "specials stand at the two ends alone");
      fuzz::require(
          std::all_of(ids.begin(), ids.end(),
                      [&](auto id) { return id >= 0 && id < tokenizer.vocabulary_size(); }),
          "ids lie inside the vocabulary");
    }
  });
  return 0;
}
