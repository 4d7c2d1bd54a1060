// SPDX-License-Identifier: Apache-2.0
#include "models/files/torch_unpickler.hpp"

#include "base/error.hpp"
#include "models/files/little_endian.hpp"
#include "models/files/mapped_tensors.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace triphase::models {
namespace {

using Kind = PickleValue::Kind;

// Python's pickler flushes a dict every 1000 entries, so a sane stack is short. The other limits
// leave room for kMaxTensors tensors, each with about 16 members of tuples and 10 memo entries, and
// keep all lists below 40 MB.
constexpr std::size_t kMaxStack = 16'384;
constexpr std::size_t kMaxMemo = 1U << 19U;
constexpr std::size_t kMaxMembers = 1U << 20U;
constexpr std::size_t kMaxEntries = 1U << 17U;
constexpr std::size_t kMaxLine = 256;

enum class Global : std::uint8_t { kOrderedDict, kRebuildTensor, kRebuildParameter, kFirstStorage };

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kFunctions{{
    {"collections", "OrderedDict"},
    {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_parameter"},
}};

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 10> kStorages{{
    {"FloatStorage", at::kFloat},
    {"HalfStorage", at::kHalf},
    {"BFloat16Storage", at::kBFloat16},
    {"DoubleStorage", at::kDouble},
    {"LongStorage", at::kLong},
    {"IntStorage", at::kInt},
    {"ShortStorage", at::kShort},
    {"CharStorage", at::kChar},
    {"ByteStorage", at::kByte},
    {"BoolStorage", at::kBool},
}};

/// Names of opcodes that other programs' pickles have, for messages.
constexpr std::array<std::pair<std::uint8_t, const char*>, 22> kRefusedOpcodes{{
    {'i', "INST"},
    {'o', "OBJ"},
    {0x81, "NEWOBJ"},
    {0x92, "NEWOBJ_EX"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x8c, "SHORT_BINUNICODE"},
    {'P', "PERSID"},
    {']', "EMPTY_LIST"},
    {'l', "LIST"},
    {'a', "APPEND"},
    {'e', "APPENDS"},
    {'d', "DICT"},
    {0x8b, "LONG4"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {0x8f, "EMPTY_SET"},
    {'U', "SHORT_BINSTRING"},
}};

std::string opcode_name(std::uint8_t opcode) {
  for (const auto& [code, name] : kRefusedOpcodes)
    if (code == opcode) return str("opcode ", name);
  return str("opcode ", static_cast<int>(opcode));
}

PickleValue number(Kind kind, std::int64_t value) { return {kind, 0, value}; }

}  // namespace

void TorchUnpickler::refuse(const std::string& what) const {
  throw CheckpointError(str("'", source_, "' is not read: its pickle ", what, " (near byte ", at_,
                            "). Nothing of it was executed. Save the tensors alone, in Python: "
                            "torch.save(model.state_dict(), 'model.pt')."));
}

PickleValue TorchUnpickler::run() {
  for (;;) {
    const auto opcode = take_number<std::uint8_t>();
    if (opcode == '.') break;
    execute(opcode);
  }
  if (at_ != pickle_.size()) refuse("goes on after its end");
  if (stack_.size() != 1) refuse(str("leaves ", stack_.size(), " values, expected one"));
  return stack_.back();
}

std::string_view TorchUnpickler::text(const PickleValue& string) const {
  return {reinterpret_cast<const char*>(pickle_.data()) + string.number, string.count};
}

std::span<const PickleValue> TorchUnpickler::members(const PickleValue& tuple) const {
  return std::span(members_).subspan(static_cast<std::size_t>(tuple.number), tuple.count);
}

const TorchUnpickler::Tensor& TorchUnpickler::tensor(const PickleValue& value) const {
  return tensors_[static_cast<std::size_t>(value.number)];
}

std::span<const std::byte> TorchUnpickler::take(std::uint64_t count) {
  if (count > pickle_.size() - at_) refuse("is cut short");
  const auto part = pickle_.subspan(at_, static_cast<std::size_t>(count));
  at_ += part.size();
  return part;
}

template <class T>
T TorchUnpickler::take_number() {
  return load_little<T>(take(sizeof(T)), 0);
}

std::string_view TorchUnpickler::take_line() {
  const std::size_t begin = at_;
  while (take_number<char>() != '\n')
    if (at_ - begin > kMaxLine) refuse(str("has a name of more than ", kMaxLine, " bytes"));
  return {reinterpret_cast<const char*>(pickle_.data()) + begin, at_ - begin - 1};
}

void TorchUnpickler::push(PickleValue value) {
  if (stack_.size() >= kMaxStack) refuse(str("stacks more than ", kMaxStack, " values"));
  stack_.push_back(value);
}

PickleValue TorchUnpickler::pop() {
  if (stack_.empty() || stack_.back().kind == Kind::kMark)
    refuse("takes a value that is not there");
  const PickleValue value = stack_.back();
  stack_.pop_back();
  return value;
}

/// Index of the first value above the topmost mark.
std::size_t TorchUnpickler::after_mark() const {
  for (std::size_t i = stack_.size(); i > 0; --i)
    if (stack_[i - 1].kind == Kind::kMark) return i;
  refuse("has no mark where one belongs");
}

/// Makes one tuple of everything from `first` on.
void TorchUnpickler::push_tuple(std::size_t first) {
  const std::size_t count = stack_.size() - first;
  if (members_.size() + count > kMaxMembers)
    refuse(str("has tuples of more than ", kMaxMembers, " values"));
  const auto begin = static_cast<std::int64_t>(members_.size());
  members_.insert(members_.end(), stack_.begin() + static_cast<std::ptrdiff_t>(first),
                  stack_.end());
  stack_.resize(first);
  push({Kind::kTuple, static_cast<std::uint32_t>(count), begin});
}

void TorchUnpickler::push_global() {
  const std::string_view module = take_line();
  const std::string_view name = take_line();
  for (std::size_t i = 0; i < kFunctions.size(); ++i)
    if (kFunctions[i] == std::pair(module, name))
      return push(number(Kind::kGlobal, static_cast<std::int64_t>(i)));
  const auto first = static_cast<std::int64_t>(Global::kFirstStorage);
  for (std::size_t i = 0; i < kStorages.size() && module == "torch"; ++i)
    if (kStorages[i].first == name)
      return push(number(Kind::kGlobal, first + static_cast<std::int64_t>(i)));
  refuse(str("asks for '", module, ".", name, "', which no dict of tensors needs"));
}

/// LONG1: a two's-complement number of up to 8 bytes.
void TorchUnpickler::push_long() {
  const auto count = take_number<std::uint8_t>();
  if (count > sizeof(std::int64_t)) refuse("has an integer beyond 64 bits");
  std::uint64_t value = 0;
  unsigned shift = 0;
  for (const std::byte byte : take(count)) {
    value |= std::to_integer<std::uint64_t>(byte) << shift;
    shift += 8;
  }
  const bool is_negative = count > 0 && (value >> (shift - 1) & 1U) != 0;
  if (is_negative && shift < 64) value |= ~std::uint64_t{0} << shift;
  push(number(Kind::kInt, static_cast<std::int64_t>(value)));
}

/// BINPERSID of ("storage", type, key, device, elements). The device is not looked at.
void TorchUnpickler::push_storage() {
  const PickleValue id = pop();
  const auto parts = id.kind == Kind::kTuple ? members(id) : std::span<const PickleValue>();
  const auto first = static_cast<std::int64_t>(Global::kFirstStorage);
  const bool is_storage = parts.size() == 5 && parts[0].kind == Kind::kString &&
                          text(parts[0]) == "storage" && parts[1].kind == Kind::kGlobal &&
                          parts[1].number >= first && parts[2].kind == Kind::kString &&
                          parts[3].kind == Kind::kString && parts[4].kind == Kind::kInt &&
                          parts[4].number >= 0;
  if (!is_storage) refuse("refers to something that is no storage of a known type");
  if (std::ssize(storages_) >= kMaxTensors) refuse(str("has more than ", kMaxTensors, " storages"));
  const at::ScalarType dtype = kStorages[static_cast<std::size_t>(parts[1].number - first)].second;
  storages_.push_back({dtype, parts[2], parts[4].number});
  push(number(Kind::kStorage, std::ssize(storages_) - 1));
}

/// REDUCE: calls nothing; makes the value that the known function would return.
void TorchUnpickler::reduce() {
  const PickleValue tuple = pop();
  const PickleValue function = pop();
  if (function.kind != Kind::kGlobal || tuple.kind != Kind::kTuple)
    refuse("calls something that is no function");
  const auto arguments = members(tuple);
  switch (static_cast<Global>(std::min<std::int64_t>(function.number, 3))) {
    case Global::kOrderedDict:
      if (!arguments.empty()) refuse("makes an OrderedDict of arguments");
      return push(number(Kind::kDict, num_dicts_++));
    case Global::kRebuildTensor:
      return rebuild_tensor(arguments);
    case Global::kRebuildParameter:  // (tensor, requires_grad, backward hooks)
      if (arguments.size() != 3 || arguments[0].kind != Kind::kTensor)
        refuse("makes a parameter of no tensor");
      return push(arguments[0]);
    case Global::kFirstStorage:
      break;
  }
  refuse("calls a storage type");
}

/// _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, backward hooks).
void TorchUnpickler::rebuild_tensor(std::span<const PickleValue> arguments) {
  const bool is_sane = arguments.size() == 6 && arguments[0].kind == Kind::kStorage &&
                       arguments[1].kind == Kind::kInt && arguments[1].number >= 0 &&
                       arguments[2].kind == Kind::kTuple && arguments[3].kind == Kind::kTuple &&
                       arguments[2].count == arguments[3].count;
  if (!is_sane)
    refuse("makes a tensor of other arguments than a storage, an offset, sizes and strides");
  if (arguments[2].count > kMaxDimensions)
    refuse(str("has a tensor of more than ", kMaxDimensions, " dimensions"));
  for (const PickleValue& tuple : {arguments[2], arguments[3]})
    for (const PickleValue& size : members(tuple))
      if (size.kind != Kind::kInt || size.number < 0)
        refuse("has a tensor with a negative size or stride");
  if (std::ssize(tensors_) >= kMaxTensors) refuse(str("has more than ", kMaxTensors, " tensors"));
  const Storage& storage = storages_[static_cast<std::size_t>(arguments[0].number)];
  tensors_.push_back({storage, arguments[1].number, arguments[2], arguments[3]});
  push(number(Kind::kTensor, std::ssize(tensors_) - 1));
}

/// Puts the pairs from `first` on into the dict below them (and below their mark, if any).
void TorchUnpickler::set_items(std::size_t first) {
  const std::size_t below = first > 0 && stack_[first - 1].kind == Kind::kMark ? first - 1 : first;
  if (below == 0 || stack_[below - 1].kind != Kind::kDict)
    refuse("puts items into something that is no dict");
  if ((stack_.size() - first) % 2 != 0) refuse("has a key without a value");
  if (entries_.size() + (stack_.size() - first) / 2 > kMaxEntries)
    refuse(str("has dicts of more than ", kMaxEntries, " entries"));
  const std::int64_t dict = stack_[below - 1].number;
  for (std::size_t i = first; i < stack_.size(); i += 2)
    entries_.push_back({dict, stack_[i], stack_[i + 1]});
  stack_.resize(below);
}

void TorchUnpickler::memoize(std::uint32_t index) {
  if (stack_.empty() || stack_.back().kind == Kind::kMark)
    refuse("notes a value that is not there");
  if (index >= kMaxMemo) refuse(str("notes more than ", kMaxMemo, " values"));
  if (index >= memo_.size()) memo_.resize(index + 1, number(Kind::kMark, 0));
  memo_[index] = stack_.back();
}

void TorchUnpickler::recall(std::uint32_t index) {
  if (index >= memo_.size() || memo_[index].kind == Kind::kMark)
    refuse("recalls a value that it never noted");
  push(memo_[index]);
}

void TorchUnpickler::execute(std::uint8_t opcode) {
  if (push_plain(opcode) || use_memo(opcode)) return;
  switch (opcode) {
    case 'c':
      return push_global();
    case 'Q':
      return push_storage();
    case 'R':
      return reduce();
    case 't': {
      const std::size_t first = after_mark();
      push_tuple(first);
      std::swap(stack_[first - 1], stack_[first]);  // the tuple takes its mark's place
      return stack_.pop_back();
    }
    case 0x85:
    case 0x86:
    case 0x87: {
      const std::size_t count = opcode - 0x84U;
      for (std::size_t i = 0; i < count; ++i)
        if (stack_.size() <= i || stack_[stack_.size() - 1 - i].kind == Kind::kMark)
          refuse("takes a value that is not there");
      return push_tuple(stack_.size() - count);
    }
    case 's':
      if (stack_.size() < 3 || stack_.back().kind == Kind::kMark ||
          stack_[stack_.size() - 2].kind == Kind::kMark ||
          stack_[stack_.size() - 3].kind == Kind::kMark)
        refuse("takes a value that is not there");
      return set_items(stack_.size() - 2);
    case 'u':
      return set_items(after_mark());
    case 'b':  // attributes of an OrderedDict: torch's _metadata, which holds no weights
      pop();
      if (stack_.empty() || stack_.back().kind != Kind::kDict)
        refuse("gives attributes to something that is no dict");
      return;
    default:
      refuse(str("has the ", opcode_name(opcode), ", which no dict of tensors needs"));
  }
}

/// Opcodes that push one value.
bool TorchUnpickler::push_plain(std::uint8_t opcode) {
  switch (opcode) {
    case 0x80:
      if (const int protocol = take_number<std::uint8_t>(); protocol != 2)
        refuse(str("has protocol ", protocol, ", expected torch.save's own, 2"));
      break;
    case '(':
      push(number(Kind::kMark, 0));
      break;
    case 'N':
      push(number(Kind::kNone, 0));
      break;
    case 0x88:
      push(number(Kind::kBool, 1));
      break;
    case 0x89:
      push(number(Kind::kBool, 0));
      break;
    case 'K':
      push(number(Kind::kInt, take_number<std::uint8_t>()));
      break;
    case 'M':
      push(number(Kind::kInt, take_number<std::uint16_t>()));
      break;
    case 'J':
      push(number(Kind::kInt, take_number<std::int32_t>()));
      break;
    case 0x8a:
      push_long();
      break;
    case 'G':  // beside the tensors, as a note; its value is not looked at
      take(sizeof(double));
      push(number(Kind::kFloat, 0));
      break;
    case 'X': {
      const auto count = take_number<std::uint32_t>();
      const auto begin = static_cast<std::int64_t>(at_);
      take(count);
      push({Kind::kString, count, begin});
      break;
    }
    case ')':
      push_tuple(stack_.size());
      break;
    case '}':
      push(number(Kind::kDict, num_dicts_++));
      break;
    default:
      return false;
  }
  return true;
}

/// Opcodes that note or recall a value.
bool TorchUnpickler::use_memo(std::uint8_t opcode) {
  switch (opcode) {
    case 'q':
      memoize(take_number<std::uint8_t>());
      break;
    case 'r':
      memoize(take_number<std::uint32_t>());
      break;
    case 'h':
      recall(take_number<std::uint8_t>());
      break;
    case 'j':
      recall(take_number<std::uint32_t>());
      break;
    default:
      return false;
  }
  return true;
}

}  // namespace triphase::models
