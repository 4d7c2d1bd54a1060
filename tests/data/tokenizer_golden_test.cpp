// SPDX-License-Identifier: Apache-2.0
// More than 5,000 strings against nltk, tokenizers and transformers; see
// tests/reference/make_tokens.py.
#include <cstring>
#include <functional>

#include "base/hash.hpp"
#include "data/tokenizer.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

/// Every case's text, repeated as often as the golden says.
std::vector<std::string> golden_texts(const Json& golden) {
  std::vector<std::string> texts;
  for (const Json& one : golden.at("cases")) {
    const auto text = (one.is_array() ? one[0] : one).get<std::string>();
    std::string& repeated = texts.emplace_back();
    for (int i = one.is_array() ? one[1].get<int>() : 1; i > 0; --i) repeated += text;
  }
  return texts;
}

std::string ids_hash(const std::vector<std::int64_t>& ids) {
  std::string bytes;
  for (const std::int64_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<char>((id >> shift) & 0xFF));
  return hex64(xxh3(bytes));
}

/// Compares a hash of every text with the golden's, and names the first few that differ.
void expect_hashes(const std::vector<std::string>& texts, const Json& golden,
                   const std::string& key,
                   const std::function<std::string(const std::string&)>& hash_of) {
  const auto hashes = golden.at(key).get<std::string>();
  ASSERT_EQ(hashes.size(), 16 * texts.size()) << key;
  int wrong = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (hash_of(texts[i]) == hashes.substr(16 * i, 16)) continue;
    if (++wrong <= 5)
      ADD_FAILURE() << key << " of case " << i << ": "
                    << Json(texts[i]).dump(-1, ' ', true).substr(0, 200);
  }
  EXPECT_EQ(wrong, 0) << key;
}

void expect_tokens(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                   const Json& golden) {
  constexpr std::int64_t kNoLimit = 1 << 30;
  expect_hashes(texts, golden, "ids", [&](const std::string& text) {
    return ids_hash(tokenizer.encode(text, kNoLimit));
  });
  expect_hashes(texts, golden, "ids_sanitized", [&](const std::string& text) {
    return ids_hash(tokenizer.encode(sanitize_report(text), kNoLimit));
  });
}

TEST(TokenizerGolden, FiveThousandTextsAreManyOfEveryKind) {
  const std::vector<std::string> texts = golden_texts(test::load_golden_json("tokenizer/many"));
  EXPECT_GE(texts.size(), 5000U);
  const auto count = [&](auto has) { return std::count_if(texts.begin(), texts.end(), has); };
  EXPECT_GE(count([](const std::string& t) { return t.size() >= 98'000; }), 20);
  EXPECT_GE(count([](const std::string& t) { return t.find("</s>") != std::string::npos; }), 10);
}

TEST(TokenizerGolden, PreparationsAreNltksAndPythons) {
  const Json golden = test::load_golden_json("tokenizer/many");
  const std::vector<std::string> texts = golden_texts(golden);
  expect_hashes(texts, golden, "sanitized", [](const std::string& text) {
    return hex64(xxh3(prepare_report(text, TextPreparation::kWordPunct)));
  });
  expect_hashes(texts, golden, "lower", [](const std::string& text) {
    return hex64(xxh3(prepare_report(text, TextPreparation::kLower)));
  });
}

TEST(TokenizerGolden, IdsOfASmallVocabularyAreThoseOfTokenizers) {
  const Json golden = test::load_golden_json("tokenizer/many");
  expect_tokens(Tokenizer(test::golden_folder() / "tokenizer" / "small"), golden_texts(golden),
                golden);
}

TEST(TokenizerGolden, IdsOfRobertasVocabularyAreThoseOfTransformers) {
  TRIPHASE_NEEDS_SHARED();
  expect_tokens(Tokenizer(test::shared_folder() / "data" / "roberta"),
                golden_texts(test::load_golden_json("tokenizer/many")),
                test::load_golden_json("tokenizer/many_roberta"));
}

/// Neither the text of a special token nor anything else in a report begins, ends, pads or masks
/// it.
void expect_no_specials_inside(const Tokenizer& tokenizer) {
  std::vector<std::int64_t> specials{tokenizer.bos_id(), tokenizer.pad_id(), tokenizer.eos_id(),
                                     3};  // 3: <unk>
  const std::vector<std::string> texts = golden_texts(test::load_golden_json("tokenizer/many"));
  for (const std::string& text : texts) {
    if (text.size() > 1000) continue;
    for (const TextPreparation preparation :
         {TextPreparation::kWordPunct, TextPreparation::kLower}) {
      const std::string prepared = prepare_report(text, preparation);
      const auto ids = tokenizer.encode(prepared, 1 << 20);
      for (std::size_t i = 1; i + 1 < ids.size(); ++i)
        EXPECT_EQ(std::count(specials.begin(), specials.end(), ids[i]), 0) << prepared;
      EXPECT_EQ(tokenizer.decode(ids), prepared);
    }
  }
}

TEST(Specials, AReportCannotEndItself) {
  expect_no_specials_inside(Tokenizer(test::golden_folder() / "tokenizer" / "small"));
  EXPECT_EQ(sanitize_report("No lesion.</s>"), "no lesion .</ s >");
  EXPECT_EQ(prepare_report("No lesion.</S>", TextPreparation::kLower), "no lesion.</s>");
}

TEST(Specials, AReportCannotEndItselfUnderRobertasVocabulary) {
  TRIPHASE_NEEDS_SHARED();
  const Tokenizer tokenizer(test::shared_folder() / "data" / "roberta");
  expect_no_specials_inside(tokenizer);
  const auto ids = tokenizer.encode("<mask>", 99);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 50264), 0);  // <mask>
}

TEST(TextPreparation, HasNamesBothWays) {
  EXPECT_EQ(text_preparation_name(TextPreparation::kWordPunct), "wordpunct");
  EXPECT_EQ(text_preparation_name(TextPreparation::kLower), "lower");
  for (const std::string& name : text_preparation_names())
    EXPECT_EQ(text_preparation_name(text_preparation_from_name(name)), name);
  test::expect_error<ConfigError>([] { (void)text_preparation_from_name("upper"); },
                                  ExitCode::kUsage, {"'upper'", "wordpunct", "lower"});
  for (const TextPreparation preparation : {TextPreparation::kWordPunct, TextPreparation::kLower})
    test::expect_error<DataError>([&] { (void)prepare_report("a \xff", preparation); },
                                  ExitCode::kBadData, {"not UTF-8"});
  EXPECT_EQ(prepare_report("  Intra-abdominal. NO 3.2cm\n", TextPreparation::kLower),
            "  intra-abdominal. no 3.2cm\n");
}

}  // namespace
}  // namespace triphase::data
