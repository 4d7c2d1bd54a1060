// SPDX-License-Identifier: Apache-2.0
#include "models/files/torch_zip.hpp"

#include "base/error.hpp"
#include "models/files/little_endian.hpp"
#include "models/files/mapped_tensors.hpp"

#include <libdeflate.h>

#include <algorithm>

namespace triphase::models {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::uint32_t kLocalMark = 0x04034b50;
constexpr std::uint32_t kCentralMark = 0x02014b50;
constexpr std::uint32_t kEndMark = 0x06054b50;
constexpr std::uint32_t kEnd64Mark = 0x06064b50;
constexpr std::uint32_t kLocatorMark = 0x07064b50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::uint32_t kSeeExtra = 0xFFFFFFFF;  ///< "the number is in the 64-bit extra field"
constexpr std::uint16_t kSeeExtra16 = 0xFFFF;

constexpr std::uint16_t kSizesFollow =
    1U << 3;  ///< sizes and CRC stand after the data and in the directory
constexpr std::uint16_t kUtf8Names = 1U << 11;
constexpr std::uint16_t kEncrypted = 1U | 1U << 6 | 1U << 13;

/// Where the directory lies and how many entries it has.
struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t count = 0;
};

/// What the directory or the header before a file says of it.
struct Record {
  std::string_view name;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc32 = 0;
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;
  std::uint64_t header_begin = 0;  ///< directory only
  std::uint64_t end = 0;           ///< of this record
};

class ZipReader {
 public:
  ZipReader(Bytes archive, const std::string& source) : archive_(archive), source_(source) {}

  std::vector<ZipEntry> list() {
    const Directory directory = find_directory();
    std::vector<ZipEntry> entries;
    entries.reserve(directory.count);
    std::uint64_t at = directory.begin;
    for (std::uint64_t i = 0; i < directory.count; ++i) {
      const Record record = central_record(at, directory.begin + directory.size);
      entries.push_back(place(record, directory.begin));
      at = record.end;
    }
    if (at != directory.begin + directory.size)
      refuse("its directory has bytes that no entry claims");
    check_names_and_overlaps(entries);
    return entries;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw CheckpointError(str("'", source_, "' is no sane torch.save archive: ", what,
                              ". Fetch it again, or write it again with torch.save."));
  }
  template <class T>
  T load(std::uint64_t at) const {
    return load_little<T>(archive_, at);
  }
  std::string_view text(std::uint64_t at, std::size_t size) const {
    return {reinterpret_cast<const char*>(archive_.data() + at), size};
  }

  Directory find_directory() const {
    const std::uint64_t size = archive_.size();
    if (size < kEndBytes || load<std::uint32_t>(size - kEndBytes) != kEndMark)
      refuse(
          "the record that ends an archive is not at the file's end (the file is cut short, or "
          "something "
          "was appended)");
    const std::uint64_t end = size - kEndBytes;
    if (load<std::uint16_t>(end + 20) != 0) refuse("its end record announces a comment");
    if (load<std::uint16_t>(end + 4) != 0 || load<std::uint16_t>(end + 6) != 0)
      refuse("it is one part of several");
    const auto count = load<std::uint16_t>(end + 10);
    if (load<std::uint16_t>(end + 8) != count) refuse("its end record has two counts that differ");
    Directory directory{load<std::uint32_t>(end + 16), load<std::uint32_t>(end + 12), count};
    std::uint64_t records = end;
    if (end >= kLocatorBytes && load<std::uint32_t>(end - kLocatorBytes) == kLocatorMark) {
      const Directory wide = wide_directory(end - kLocatorBytes, records);
      const auto agrees = [](std::uint64_t narrow, std::uint64_t mark, std::uint64_t value) {
        return narrow == mark || narrow == value;
      };
      if (!agrees(directory.begin, kSeeExtra, wide.begin) ||
          !agrees(directory.size, kSeeExtra, wide.size) ||
          !agrees(directory.count, kSeeExtra16, wide.count))
        refuse("its two end records differ");
      directory = wide;
    }
    if (directory.count > kMaxZipEntries)
      refuse(str("it would hold ", directory.count, " files, allowed are ", kMaxZipEntries));
    if (directory.begin > records || directory.size != records - directory.begin)
      refuse(str("its directory of ", directory.size, " bytes at ", directory.begin,
                 " does not end where the end record begins (", records, ")"));
    if (directory.size / kCentralBytes < directory.count)
      refuse(str("its directory of ", directory.size, " bytes is too short for ", directory.count,
                 " files"));
    return directory;
  }

  /// @param records set to where the 64-bit end record begins
  Directory wide_directory(std::uint64_t locator, std::uint64_t& records) const {
    const auto begin = load<std::uint64_t>(locator + 8);
    if (load<std::uint32_t>(locator + 4) != 0 || load<std::uint32_t>(locator + 16) != 1)
      refuse("it is one part of several");
    if (locator < kEnd64Bytes || begin != locator - kEnd64Bytes ||
        load<std::uint32_t>(begin) != kEnd64Mark ||
        load<std::uint64_t>(begin + 4) != kEnd64Bytes - 12)
      refuse("its 64-bit end record is not where its locator says");
    if (load<std::uint32_t>(begin + 16) != 0 || load<std::uint32_t>(begin + 20) != 0)
      refuse("it is one part of several");
    const auto count = load<std::uint64_t>(begin + 32);
    if (load<std::uint64_t>(begin + 24) != count)
      refuse("its end record has two counts that differ");
    records = begin;
    return {load<std::uint64_t>(begin + 48), load<std::uint64_t>(begin + 40), count};
  }

  /// Replaces saturated numbers by those of the 64-bit extra field, in its fixed order.
  void widen(std::uint64_t extra, std::uint64_t extra_end,
             std::vector<std::uint64_t*> numbers) const {
    std::erase_if(numbers, [](const std::uint64_t* number) { return *number != kSeeExtra; });
    if (numbers.empty()) return;
    while (extra + 4 <= extra_end) {
      const auto id = load<std::uint16_t>(extra);
      const std::uint64_t begin = extra + 4;
      extra = begin + load<std::uint16_t>(extra + 2);
      if (id != 1) continue;
      if (extra > extra_end || extra - begin < 8 * numbers.size()) break;
      for (std::size_t i = 0; i < numbers.size(); ++i)
        *numbers[i] = load<std::uint64_t>(begin + 8 * i);
      return;
    }
    refuse("a file's 64-bit sizes are announced and not there");
  }

  Record central_record(std::uint64_t at, std::uint64_t end) const {
    if (end - at < kCentralBytes || load<std::uint32_t>(at) != kCentralMark)
      refuse(str("its directory has no entry at byte ", at));
    Record record;
    record.flags = load<std::uint16_t>(at + 8);
    record.method = load<std::uint16_t>(at + 10);
    record.crc32 = load<std::uint32_t>(at + 16);
    record.stored_size = load<std::uint32_t>(at + 20);
    record.size = load<std::uint32_t>(at + 24);
    record.header_begin = load<std::uint32_t>(at + 42);
    const std::uint64_t name_bytes = load<std::uint16_t>(at + 28);
    const std::uint64_t extra_bytes = load<std::uint16_t>(at + 30);
    const std::uint64_t comment_bytes = load<std::uint16_t>(at + 32);
    if (end - at - kCentralBytes < name_bytes + extra_bytes + comment_bytes)
      refuse(str("its directory is cut short in the entry at byte ", at));
    record.name = text(at + kCentralBytes, name_bytes);
    check_name(record.name);
    if (const auto part = load<std::uint16_t>(at + 34); part != 0 && part != kSeeExtra16)
      refuse("it is one part of several");
    const std::uint64_t extra = at + kCentralBytes + name_bytes;
    widen(extra, extra + extra_bytes, {&record.size, &record.stored_size, &record.header_begin});
    record.end = extra + extra_bytes + comment_bytes;
    check_kind(record);
    return record;
  }

  /// Names are only compared, never opened; one that could lead out of a folder shows what the file
  /// is for.
  void check_name(std::string_view name) const {
    if (name.empty() || name.size() > kMaxNameBytes || name.find('\0') != std::string_view::npos)
      refuse("a file in it has no name, an endless one, or one with a zero byte");
    bool leads_out = name.front() == '/' || name.find('\\') != std::string_view::npos ||
                     (name.size() > 1 && name[1] == ':');
    for (std::size_t begin = 0; begin <= name.size();) {
      const std::size_t end = std::min(name.find('/', begin), name.size());
      const std::string_view part = name.substr(begin, end - begin);
      leads_out = leads_out || part.empty() || part == "." || part == "..";
      begin = end + 1;
    }
    if (leads_out)
      refuse(str("the name '", name.substr(0, 200), "' is absolute, a folder, or leads elsewhere"));
  }

  void check_kind(const Record& record) const {
    if ((record.flags & kEncrypted) != 0) refuse(str("'", record.name, "' is encrypted"));
    if ((record.flags & ~(kSizesFollow | kUtf8Names)) != 0)
      refuse(str("'", record.name, "' has the unknown flags ", record.flags));
    if (record.method != 0)
      refuse(str("'", record.name, "' is compressed (method ", record.method,
                 "), which torch.save never does"));
    if (record.size != record.stored_size)
      refuse(str("'", record.name, "' is stored in ", record.stored_size, " bytes and would have ",
                 record.size));
  }

  /// Checks the header before the file against the directory.
  ZipEntry place(const Record& central, std::uint64_t data_limit) const {
    const std::uint64_t at = central.header_begin;
    if (at > data_limit || data_limit - at < kLocalBytes || load<std::uint32_t>(at) != kLocalMark)
      refuse(str("'", central.name, "' is not where the directory says (byte ", at, ")"));
    const std::uint64_t name_bytes = load<std::uint16_t>(at + 26);
    const std::uint64_t extra_bytes = load<std::uint16_t>(at + 28);
    const std::uint64_t begin = at + kLocalBytes + name_bytes + extra_bytes;
    if (begin > data_limit || data_limit - begin < central.size)
      refuse(str("'", central.name, "' claims ", central.size, " bytes at ", begin,
                 ", the directory begins at ", data_limit));
    Record local;
    local.name = text(at + kLocalBytes, name_bytes);
    local.crc32 = load<std::uint32_t>(at + 14);
    local.stored_size = load<std::uint32_t>(at + 18);
    local.size = load<std::uint32_t>(at + 22);
    widen(begin - extra_bytes, begin, {&local.size, &local.stored_size});
    const bool sizes_follow = (central.flags & kSizesFollow) != 0 && local.crc32 == 0 &&
                              local.size == 0 && local.stored_size == 0;
    const bool same_sizes = local.crc32 == central.crc32 && local.size == central.size &&
                            local.stored_size == central.stored_size;
    if (local.name != central.name || load<std::uint16_t>(at + 6) != central.flags ||
        load<std::uint16_t>(at + 8) != central.method || !(sizes_follow || same_sizes))
      refuse(str("the header before '", central.name, "' says something else than the directory"));
    return {central.name, static_cast<std::int64_t>(at), static_cast<std::int64_t>(begin),
            static_cast<std::int64_t>(central.size), central.crc32};
  }

  void check_names_and_overlaps(const std::vector<ZipEntry>& entries) const {
    std::vector<const ZipEntry*> order;
    order.reserve(entries.size());
    for (const ZipEntry& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->name < b->name; });
    for (std::size_t i = 1; i < order.size(); ++i)
      if (order[i]->name == order[i - 1]->name)
        refuse(str("it holds '", order[i]->name, "' twice"));
    std::sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->begin < b->begin; });
    std::int64_t reached = 0;
    for (const ZipEntry* entry : order) {
      if (entry->header_begin < reached)
        refuse(str("'", entry->name, "' overlaps another file in it"));
      reached = entry->begin + entry->size;
    }
  }

  Bytes archive_;
  const std::string& source_;
};

}  // namespace

std::vector<ZipEntry> list_stored_zip(Bytes archive, const std::string& source) {
  return ZipReader(archive, source).list();
}

void check_crc32(const MappedFile& archive, const ZipEntry& entry, const std::string& source) {
  std::uint32_t crc = 0;
  const auto begin = static_cast<std::size_t>(entry.begin);
  visit_pieces(archive, archive.bytes().subspan(begin, static_cast<std::size_t>(entry.size)),
               [&crc](Bytes piece) { crc = libdeflate_crc32(crc, piece.data(), piece.size()); });
  TRIPHASE_CHECK(CheckpointError, crc == entry.crc32, "'", source, "': '", entry.name,
                 "' is damaged (its CRC-32 is ", crc, ", expected ", entry.crc32,
                 "). Fetch the file again.");
}

}  // namespace triphase::models
