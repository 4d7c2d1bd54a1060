// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer.hpp"

#include <algorithm>
#include <set>
#include <thread>

#include "base/json.hpp"
#include "base/random.hpp"
#include "data/byte_level.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::data {
namespace {

std::filesystem::path small_folder() { return test::golden_folder() / "tokenizer" / "small"; }

/// Text and ids of every golden case, under one tokenizer.
void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  const Json golden = read_json(test::golden_folder() / "tokenizer" / name);
  ASSERT_GT(golden["cases"].size(), 100U);
  using Ids = std::vector<std::int64_t>;
  for (const Json& one : golden["cases"]) {
    const auto text = one["text"].get<std::string>();
    const auto sanitized = one["sanitized"].get<std::string>();
    EXPECT_EQ(sanitize_report(text), sanitized) << one["text"].dump(-1, ' ', true);
    EXPECT_EQ(tokenizer.encode(text, 1024), one["ids"].get<Ids>())
        << one["text"].dump(-1, ' ', true);
    EXPECT_EQ(tokenizer.encode(text, 16), one["ids_16"].get<Ids>())
        << one["text"].dump(-1, ' ', true);
    EXPECT_EQ(tokenizer.encode(sanitized, 1024), one["ids_sanitized"].get<Ids>())
        << one["sanitized"].dump(-1, ' ', true);
    if (one["ids"].size() < 1024) {
      EXPECT_EQ(tokenizer.decode(one["ids"].get<Ids>()), text);
    }
  }
}

/// One to forty characters from all over Unicode.
std::string random_text(KeyedRandom& random) {
  static const std::vector<std::string> kParts{
      "a", "B",  "7",          " ",      "  ",     "\n",  ".",    "'s", "é",
      "Σ", "肝", "\U0001f600", "\u0301", "\u2003", "<s>", "\x01", "Ġ"};
  std::string text;
  const std::uint64_t length = 1 + random.below(40);
  for (std::uint64_t i = 0; i < length; ++i)
    text += kParts[static_cast<std::size_t>(random.below(kParts.size()))];
  return text;
}

/// A folder with a small vocabulary in which one thing was changed.
void write_vocabulary(const test::TemporaryFolder& folder, const std::string& find,
                      const std::string& put) {
  std::string vocabulary = test::read_text(small_folder() / "vocab.json");
  const std::size_t at = vocabulary.find(find);
  ASSERT_NE(at, std::string::npos) << find;
  test::write_text(folder / "vocab.json", vocabulary.replace(at, find.size(), put));
  test::write_text(folder / "merges.txt", test::read_text(small_folder() / "merges.txt"));
}

void expect_refused(const test::TemporaryFolder& folder, std::initializer_list<std::string> words,
                    ExitCode code = ExitCode::kBadData) {
  test::expect_error<DataError>([&] { const Tokenizer tokenizer(folder.path()); }, code, words);
}

TEST(Tokenizer, DecodeGivesBackWhatWasEncoded) {
  const Tokenizer tokenizer(small_folder());
  KeyedRandom random{1, 2};
  for (int i = 0; i < 500; ++i) {
    const std::string text = random_text(random);
    const auto ids = tokenizer.encode(text, 1024);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(ids.front(), tokenizer.bos_id());
    EXPECT_EQ(ids.back(), tokenizer.eos_id());
  }
}

TEST(Tokenizer, CuttingKeepsThePrefixAndBothSpecials) {
  const Tokenizer tokenizer(small_folder());
  KeyedRandom random{3};
  for (int i = 0; i < 100; ++i) {
    const auto whole = tokenizer.encode(random_text(random), 4096);
    for (const std::size_t limit : {2UL, 3UL, 7UL, whole.size(), whole.size() + 1}) {
      const auto cut = tokenizer.encode(tokenizer.decode(whole), static_cast<std::int64_t>(limit));
      auto expected = whole;
      if (expected.size() > limit) {
        expected.resize(limit - 1);
        expected.push_back(tokenizer.eos_id());
      }
      EXPECT_EQ(cut, expected);
    }
  }
}

TEST(Tokenizer, AgreesWithTheReferenceOnASmallVocabulary) {
  expect_golden(Tokenizer(small_folder()), "small.json");
}

TEST(Tokenizer, AgreesWithTheReferenceOnRobertasVocabulary) {
  TRIPHASE_NEEDS_SHARED();
  const Tokenizer tokenizer(test::shared_folder() / "data" / "roberta");
  EXPECT_EQ(tokenizer.vocabulary_size(), 50265);
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.pad_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.encode("Hello world", 1024), (std::vector<std::int64_t>{0, 31414, 232, 2}));
  expect_golden(tokenizer, "roberta.json");
}

TEST(Tokenizer, ThreadsDoNotDisturbOneAnother) {
  const Tokenizer tokenizer(small_folder());
  const auto encode_all = [&] {
    KeyedRandom random{9};
    std::vector<std::vector<std::int64_t>> all;
    for (int i = 0; i < 200; ++i)
      all.push_back(tokenizer.encode(sanitize_report(random_text(random)), 99));
    return all;
  };
  const auto expected = encode_all();
  std::vector<std::vector<std::vector<std::int64_t>>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& mine : found) threads.emplace_back([&] { mine = encode_all(); });
  }
  for (const auto& mine : found) EXPECT_EQ(mine, expected);
}

TEST(Tokenizer, ALongWordCostsNoMoreThanItMust) {
  // Joining by looking through the whole word again for every merge would take hours here.
  const Tokenizer tokenizer(small_folder());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(1 << 20, 'a'), 1 << 21)),
            std::string(1 << 20, 'a'));
}

TEST(Tokenizer, RefusesFilesItCannotTrust) {
  const test::TemporaryFolder folder;
  expect_refused(folder, {"vocab.json"}, ExitCode::kMissingInput);
  write_vocabulary(folder, "\"<pad>\"", "\"<dap>\"");
  expect_refused(folder, {"<pad>", "vocab.json"});
  write_vocabulary(folder, "\"<pad>\":1", "\"<pad>\": -1");
  expect_refused(folder, {"<pad>", "-1"});
  write_vocabulary(folder, "\"<pad>\":1", "\"<pad>\": 0");
  expect_refused(folder, {"id 0", "twice"});
  write_vocabulary(folder, "\"<pad>\":1", "\"<pad>\": 1, \"<pad>\": 1");
  expect_refused(folder, {"<pad>", "twice"});
  write_vocabulary(folder, "\"<pad>\":1", "\"<pad>\": {\"x\": 1}");
  expect_refused(folder, {"nested"});
  write_vocabulary(folder, "\"<pad>\":1", "\"<pad>\": 99999999999");
  expect_refused(folder, {"<pad>", "99999999999"});
  write_vocabulary(folder, "{", "[");
  expect_refused(folder, {"not JSON"});
  write_vocabulary(folder, "\"!\":", "\"!!!\":");
  expect_refused(folder, {"'!'", "every byte"});
  write_vocabulary(folder, "<pad>", "<pad>");
  test::write_text(folder / "merges.txt", "#version: 0.2\na b c\n");
  expect_refused(folder, {"merges.txt", "line 2"});
  test::write_text(folder / "merges.txt", "#version: 0.2\n\nzz qq\n");
  expect_refused(folder, {"zzqq", "merges.txt line 3"});
}

TEST(Tokenizer, RefusesIdsWithAGapAndMergesThatDoNotMakeTheVocabulary) {
  const test::TemporaryFolder folder;
  write_vocabulary(folder, "\"<unk>\":3", "\"<unk>\": 900");
  expect_refused(folder, {"no token the id 3", "no gap"});
  write_vocabulary(folder, "<pad>", "<pad>");
  const std::string merges = test::read_text(folder / "merges.txt");
  // Every number of whole lines but all of them.
  for (std::size_t end = merges.find('\n'); end + 1 < merges.size();
       end = merges.find('\n', end + 1)) {
    test::write_text(folder / "merges.txt", merges.substr(0, end + 1));
    expect_refused(folder, {"makes no token", "cut short"});
  }
}

TEST(Tokenizer, TokensWithoutAMergeAreThoseOfOtherTokenizersAlone) {
  const test::TemporaryFolder folder;
  for (const std::string token : {"madeupword0007", "<|endoftext|>", "[CLS]"}) {
    write_vocabulary(folder, "{", "{\"" + token + "\":300,");
    const Tokenizer tokenizer(folder.path());
    EXPECT_EQ(tokenizer.vocabulary_size(), 301) << token;
  }
  write_vocabulary(folder, "{", "{\"liver\":300,");
  expect_refused(folder, {"makes no token 'liver'"});
}

TEST(Tokenizer, FilesBeyondTheLimitsAreRefused) {
  const test::TemporaryFolder folder;
  write_vocabulary(folder, "<pad>", "<pad>");
  std::string many = "{\"0\":0";
  for (int i = 1; i <= 1 << 17; ++i) many += str(",\"", i, "\":", i);
  test::write_text(folder / "vocab.json", many + "}");
  expect_refused(folder, {"131072"});
  test::write_text(folder / "vocab.json", std::string((8 << 20) + 1, ' '));
  expect_refused(folder, {"vocab.json", "at most 8388608"});
  write_vocabulary(folder, "<pad>", "<pad>");
  std::string lines = test::read_text(folder / "merges.txt");
  for (int i = 0; i <= 1 << 18; ++i) lines += "a t\n";
  test::write_text(folder / "merges.txt", lines);
  expect_refused(folder, {"merges.txt", "more than 262144 merges"});
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndIdsItDoesNotKnow) {
  const Tokenizer tokenizer(small_folder());
  for (const std::string bad : {"\xff", "liver \xc3", "\xed\xa0\x80", "\xc0\xaf"}) {
    test::expect_error<DataError>([&] { static_cast<void>(tokenizer.encode(bad, 9)); },
                                  ExitCode::kBadData, {"not UTF-8"});
    test::expect_error<DataError>([&] { static_cast<void>(sanitize_report(bad)); },
                                  ExitCode::kBadData, {"not UTF-8"});
  }
  for (std::size_t at = 0; at < 40; ++at) {  // wherever it stands in a text that is ASCII otherwise
    std::string bad(40, 'a');
    bad[at] = '\x80';
    EXPECT_THROW(static_cast<void>(tokenizer.encode(bad, 99)), DataError) << at;
    EXPECT_THROW(static_cast<void>(sanitize_report(bad)), DataError) << at;
  }
  test::expect_error<ConfigError>([&] { static_cast<void>(tokenizer.encode("a", 1)); },
                                  ExitCode::kUsage, {"max_text_tokens is 1"});
  test::expect_error<DataError>([&] { static_cast<void>(tokenizer.decode({100000})); },
                                ExitCode::kBadData, {"100000"});
  EXPECT_THROW(static_cast<void>(tokenizer.decode({-1})), DataError);
}

TEST(SanitizeReport, LowersAndSplitsAsMerlinDoes) {
  EXPECT_EQ(sanitize_report("Intra-abdominal. NO 3.2cm_x"), "intra - abdominal . no 3 . 2cm_x");
  EXPECT_EQ(sanitize_report(" \t\n"), "");
  EXPECT_EQ(sanitize_report("ΟΔΟΣ Σ ΑΣΑ ΑΣ."), "οδος σ ασα ας .");
  EXPECT_EQ(sanitize_report("İ"), "i \u0307");
}

TEST(TrainTokenizer, TheSameTextsGiveTheSameFilesAndTokensJoinWhatIsFrequent) {
  const std::vector<std::string> texts(5, "hepatocellular carcinoma in the liver . no carcinoma .");
  const test::TemporaryFolder first, second;
  train_tokenizer(texts, 320, first.path());
  train_tokenizer(texts, 320, second.path());
  EXPECT_EQ(test::read_text(first / "vocab.json"), test::read_text(second / "vocab.json"));
  EXPECT_EQ(test::read_text(first / "merges.txt"), test::read_text(second / "merges.txt"));
  const Tokenizer tokenizer(first.path());
  EXPECT_LE(tokenizer.vocabulary_size(), 320);
  EXPECT_EQ(tokenizer.encode(" carcinoma", 9).size(), 3U);
  EXPECT_EQ(tokenizer.pad_id(), 1);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(texts[0], 99)), texts[0]);
}

TEST(TrainTokenizer, ThePairSeenMostOftenIsJoinedFirst) {
  const test::TemporaryFolder folder;
  train_tokenizer({"ab ab ab cd cd", "cd ef"}, 262, folder.path());
  // "a b" and "c d" stand three times each; text order decides.
  EXPECT_EQ(test::read_text(folder / "merges.txt"), "#version: 0.2\na b\nc d\n");
}

TEST(TrainTokenizer, TextNeverTeachesASpecial) {  // words hold letters or signs, not both
  const test::TemporaryFolder folder;
  const std::string text = "</s><s> <mask> </s><s> <mask> </s><s> <mask>";
  train_tokenizer({text, text}, 300, folder.path());
  const Tokenizer tokenizer(folder.path());
  const auto ids = tokenizer.encode(text, 99);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.eos_id()), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.bos_id()), 1);
  EXPECT_EQ(tokenizer.decode(ids), text);
}

TEST(TrainTokenizer, StopsWhereNoPairRepeats) {
  const test::TemporaryFolder folder;
  train_tokenizer({"abc"}, 1000, folder.path());
  EXPECT_EQ(Tokenizer(folder.path()).vocabulary_size(), 260);
  test::expect_error<ConfigError>([&] { train_tokenizer({}, 259, folder.path()); },
                                  ExitCode::kUsage, {"259"});
}

TEST(ByteLevel, EveryByteHasItsOwnCharacter) {
  std::set<std::string> characters(byte_characters().begin(), byte_characters().end());
  EXPECT_EQ(characters.size(), 256U);
  EXPECT_EQ(byte_characters()[' '], "Ġ");
  EXPECT_EQ(byte_characters()['\n'], "Ċ");
  std::set<unsigned char> bytes(byte_order().begin(), byte_order().end());
  EXPECT_EQ(bytes.size(), 256U);
  EXPECT_EQ(byte_order()[0], '!');
}

}  // namespace
}  // namespace triphase::data
