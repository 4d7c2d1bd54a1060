// SPDX-License-Identifier: Apache-2.0
#include "models/files/torch_zip.hpp"

#include "base/random.hpp"
#include "tests/models/models_test_support.hpp"
#include "tests/models/torch_file_builder.hpp"

#include <gtest/gtest.h>

namespace triphase::models {
namespace {

using test::Member;
using test::zip_of;
using test::ZipLies;
using triphase::test::expect_error;

std::vector<ZipEntry> list(const std::string& bytes) {
  return list_stored_zip(std::as_bytes(std::span(bytes)), "x.pt");
}

void expect_refused(const std::string& bytes, std::initializer_list<std::string> words) {
  expect_error<CheckpointError>([&] { (void)list(bytes); }, ExitCode::kBadData, words);
  expect_error<CheckpointError>([&] { (void)list(bytes); }, ExitCode::kBadData, {"x.pt", "again"});
}

void expect_lie_refused(const ZipLies& lies, std::initializer_list<std::string> words,
                        const test::ZipWriter::Style& style = {}) {
  expect_refused(zip_of({{"m/a", "first"}, {"m/b", "second", lies}, {"m/c", "third"}}, style),
                 words);
}

TEST(TorchZip, FilesAreListedWhereTheyLieInEveryForm) {
  const std::vector<Member> members{
      {"m/data.pkl", "pickle"}, {"m/data/0", std::string(1000, 'x')}, {"m/empty", ""}};
  for (const bool wide_end : {false, true})
    for (const bool wide_entries : {false, true})
      for (const unsigned flags : {0x0808U, 0x0800U, 0x0000U}) {
        std::vector<Member> written = members;
        for (Member& member : written) member.lies.flags = static_cast<std::uint16_t>(flags);
        const std::string bytes =
            zip_of(written, {.wide_end = wide_end, .wide_entries = wide_entries});
        const std::vector<ZipEntry> entries = list(bytes);
        ASSERT_EQ(entries.size(), members.size());
        for (std::size_t i = 0; i < members.size(); ++i) {
          EXPECT_EQ(entries[i].name, members[i].name);
          EXPECT_EQ(bytes.substr(static_cast<std::size_t>(entries[i].begin),
                                 static_cast<std::size_t>(entries[i].size)),
                    members[i].bytes);
          EXPECT_EQ(entries[i].begin % 64, 0);
        }
      }
  EXPECT_TRUE(list(zip_of({})).empty());
}

TEST(TorchZip, ChecksumsFindAChangedByte) {
  const triphase::test::TemporaryFolder folder;
  std::string bytes = zip_of({{"m/a", std::string(20'000'000, 'x')}});
  const ZipEntry entry = list(bytes)[0];
  triphase::test::write_text(folder / "x.pt", bytes);
  check_crc32(MappedFile(folder / "x.pt"), entry, "x.pt");
  bytes[static_cast<std::size_t>(entry.begin) + 15'000'000] = 'y';
  triphase::test::write_text(folder / "y.pt", bytes);
  expect_error<CheckpointError>([&] { check_crc32(MappedFile(folder / "y.pt"), entry, "y.pt"); },
                                ExitCode::kBadData, {"y.pt", "m/a", "damaged"});
}

TEST(TorchZip, NamesThatLeadElsewhereAreRefused) {
  for (const std::string name :
       {"/etc/passwd", "../x", "m/../../x", "m/..", "./x", "m//x", "m/", "m\\x", "C:/x", "..", "."})
    expect_refused(zip_of({{name, "x"}}), {"leads elsewhere"});
  expect_refused(zip_of({{"", "x"}}), {"no name"});
  expect_refused(zip_of({{std::string("m/\0x", 4), "x"}}), {"zero byte"});
  expect_refused(zip_of({{"m/" + std::string(5000, 'n'), "x"}}), {"endless"});
  expect_refused(zip_of({{"m/a", "x"}, {"m/b", "y"}, {"m/a", "z"}}), {"'m/a' twice"});
}

TEST(TorchZip, CompressionAndEncryptionAreRefused) {
  expect_lie_refused({.method = 8}, {"'m/b'", "compressed (method 8)"});
  expect_lie_refused({.method = 8, .size = 1ULL << 60, .stored_size = 6}, {"compressed"});
  expect_lie_refused({.size = 1ULL << 60, .stored_size = 6}, {"6 bytes", "1152921504606846976"});
  for (const unsigned flag : {0x0001U, 0x0040U, 0x2000U})
    expect_lie_refused({.flags = static_cast<std::uint16_t>(0x0808U | flag)},
                       {"'m/b'", "encrypted"});
  expect_lie_refused({.flags = 0x0818}, {"unknown flags"});
}

TEST(TorchZip, PlacesAndSizesThatCannotBeAreRefused) {
  for (const bool wide : {false, true}) {
    const test::ZipWriter::Style style{.wide_end = wide, .wide_entries = wide};
    expect_lie_refused({.size = 5000}, {"'m/b'", "claims 5000 bytes"}, style);
    expect_lie_refused({.header_begin = 1}, {"'m/b'", "not where the directory says"}, style);
    expect_lie_refused({.header_begin = 0}, {"'m/b'", "something else"}, style);
    expect_lie_refused({.header_begin = 4'000'000'000}, {"not where"}, style);
    expect_lie_refused({.local_name = "m/d"}, {"something else"}, style);
  }
  for (const std::uint64_t huge : {1ULL << 40, 1'000'000'000'000'000'000ULL, ~0ULL - 40, ~0ULL}) {
    expect_lie_refused({.size = huge}, {"claims"});
    expect_lie_refused({.header_begin = huge}, {"not where"});
  }
  expect_lie_refused({.flags = 0x0800, .crc32 = 7}, {"something else"});
}

TEST(TorchZip, FilesInsideOneAnotherAreRefused) {
  // The second member's header and bytes lie inside the first one's bytes.
  const std::string inner = zip_of({{"m/b", "inside", {}}}, {.wide_end = false});
  const std::string hidden = inner.substr(0, inner.find("PK\1\2"));
  const std::string outer = zip_of({{"m/a", hidden}});
  const auto begin = static_cast<std::uint64_t>(list(outer)[0].begin);
  expect_refused(zip_of({{"m/a", hidden}, {"m/b", "inside", {.header_begin = begin}}}),
                 {"'m/b'", "overlaps"});
}

TEST(TorchZip, EndRecordsThatLieAreRefused) {
  for (const bool wide : {false, true}) {
    const std::string fine = zip_of({{"m/a", "first"}, {"m/b", "second"}}, {.wide_end = wide});
    const std::size_t end = fine.size() - 22;
    const auto changed = [&](std::size_t at, const std::string& bytes) {
      return std::string(fine).replace(at, bytes.size(), bytes);
    };
    expect_refused(fine + "x", {"not at the file's end"});
    expect_refused(fine.substr(0, end), {"not at the file's end"});
    expect_refused(changed(end + 20, test::le<std::uint16_t>(3)), {"comment"});
    expect_refused(changed(end + 4, test::le<std::uint16_t>(1)), {"several"});
    expect_refused(changed(end + 8, test::le<std::uint16_t>(1)), {"differ"});
    expect_refused(changed(end + 8, test::le<std::uint16_t>(9) + test::le<std::uint16_t>(9)),
                   {wide ? "differ" : "too short"});
    expect_refused(changed(end + 8, test::le<std::uint16_t>(1) + test::le<std::uint16_t>(1)),
                   {wide ? "differ" : "no entry claims"});
    expect_refused(changed(end + 12, test::le<std::uint32_t>(46)),
                   {wide ? "differ" : "does not end"});
    expect_refused(changed(end + 16, test::le<std::uint32_t>(0)),
                   {wide ? "differ" : "does not end"});
    if (!wide) {
      expect_refused(changed(end + 8, test::le<std::uint32_t>(~0U)), {"files"});
      continue;
    }
    const std::size_t locator = end - 20;
    const std::size_t record = locator - 56;
    expect_refused(changed(locator + 8, test::le<std::uint64_t>(~0ULL - 3)), {"locator"});
    expect_refused(changed(record, "XX"), {"locator"});
    expect_refused(
        changed(record + 24, test::le<std::uint64_t>(~0ULL) + test::le<std::uint64_t>(~0ULL)),
        {"differ"});
    expect_refused(changed(locator + 16, test::le<std::uint32_t>(2)), {"several"});
    // Saturated counts, so that only the 64-bit record speaks.
    const std::string saturated = changed(end + 8, std::string(12, '\xFF'));
    EXPECT_EQ(list(saturated).size(), 2U);
    expect_refused(std::string(saturated).replace(record + 24, 16, std::string(16, '\xFF')),
                   {"would hold"});
    expect_refused(std::string(saturated).replace(record + 40, 16, std::string(16, '\xFF')),
                   {"does not end"});
  }
}

TEST(TorchZip, EveryCutAndEveryChangedByteIsFoundOrHarmless) {
  const std::string fine = zip_of({{"m/data.pkl", "pickle"}, {"m/data/0", "0123456789"}}, {});
  const std::vector<ZipEntry> expected = list(fine);
  for (std::size_t length = 0; length < fine.size(); ++length)
    EXPECT_THROW((void)list(fine.substr(0, length)), CheckpointError) << length;
  std::size_t refused = 0;
  for (std::size_t at = 0; at < fine.size(); ++at)
    for (const unsigned bit : {1U, 16U, 128U}) {
      std::string bytes = fine;
      bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ bit);
      try {
        const std::vector<ZipEntry> found = list(bytes);
        ASSERT_EQ(found.size(), expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          EXPECT_EQ(found[i].name, expected[i].name) << at;
          EXPECT_EQ(found[i].size, expected[i].size) << at;
          // A changed extra field may move the place, a changed CRC the sum: the sum finds both.
          const bool unmoved =
              found[i].begin == expected[i].begin && found[i].crc32 == expected[i].crc32;
          const auto sum = [&](const ZipEntry& entry) {
            return bytes.substr(static_cast<std::size_t>(entry.begin),
                                static_cast<std::size_t>(entry.size));
          };
          EXPECT_TRUE(unmoved || found[i].crc32 != expected[i].crc32 ||
                      sum(found[i]) != sum(expected[i]))
              << at;
        }
      } catch (const CheckpointError&) {
        ++refused;
      }
    }
  EXPECT_GT(refused, fine.size() / 2);
}

}  // namespace
}  // namespace triphase::models
