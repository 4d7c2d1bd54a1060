// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::models {

/// A value of the restricted unpickler. Small and without memory of its own: strings lie in the
/// pickle, members of tuples and dicts in the unpickler's lists.
struct PickleValue {
  enum class Kind : std::uint8_t {
    kMark,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kGlobal,
    kTuple,
    kDict,
    kStorage,
    kTensor
  };
  Kind kind = Kind::kNone;
  std::uint32_t count = 0;  ///< bytes of a string, members of a tuple
  std::int64_t number =
      0;  ///< the number itself, or where a string, tuple, global, storage or tensor lies
};

/// Interprets the opcodes of a pickle of tensors. Nothing is executed.
class TorchUnpickler {
 public:
  struct Storage {
    at::ScalarType dtype = at::kFloat;
    PickleValue key;
    std::int64_t elements = 0;
  };
  struct Tensor {
    Storage storage;
    std::int64_t offset = 0;
    PickleValue sizes;  ///< tuples
    PickleValue strides;
  };
  struct DictEntry {
    std::int64_t dict = 0;
    PickleValue key;
    PickleValue value;
  };

  /// Both must outlive the unpickler.
  TorchUnpickler(std::span<const std::byte> pickle, const std::string& source)
      : pickle_(pickle), source_(source) {}

  /// Runs to the STOP opcode, which must be the last byte. @throws CheckpointError
  [[nodiscard]] PickleValue run();

  [[nodiscard]] std::string_view text(const PickleValue& string) const;
  [[nodiscard]] std::span<const PickleValue> members(const PickleValue& tuple) const;
  [[nodiscard]] const Tensor& tensor(const PickleValue& value) const;
  /// Entries of all dicts, in the order in which they were put in.
  [[nodiscard]] const std::vector<DictEntry>& entries() const { return entries_; }
  /// CheckpointError that names file and byte, says what is refused and what to do.
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  void execute(std::uint8_t opcode);
  bool push_plain(std::uint8_t opcode);
  bool use_memo(std::uint8_t opcode);
  void push(PickleValue value);
  PickleValue pop();
  std::size_t after_mark() const;
  void push_tuple(std::size_t first);
  void push_global();
  void push_long();
  void push_storage();
  void reduce();
  void rebuild_tensor(std::span<const PickleValue> arguments);
  void set_items(std::size_t first);
  void memoize(std::uint32_t index);
  void recall(std::uint32_t index);
  std::span<const std::byte> take(std::uint64_t count);
  template <class T>
  T take_number();
  std::string_view take_line();

  std::span<const std::byte> pickle_;
  const std::string& source_;
  std::size_t at_ = 0;
  std::vector<PickleValue> stack_;
  std::vector<PickleValue> memo_;
  std::vector<PickleValue> members_;
  std::vector<DictEntry> entries_;
  std::vector<Storage> storages_;
  std::vector<Tensor> tensors_;
  std::int64_t num_dicts_ = 0;
};

}  // namespace triphase::models
