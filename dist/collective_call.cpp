// SPDX-License-Identifier: Apache-2.0
#include "dist/collective_call.hpp"

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

namespace triphase::dist {
namespace {

constexpr std::size_t kDescriptionBytes = 240;
constexpr int kMostRanksNamed = 4;

/// The part of a call that the ranks compare. Sent as bytes: no padding.
struct Signature {
  std::int32_t operation;
  std::int32_t dtype;
  std::int32_t first;
  std::int32_t second;
  std::int64_t numel;
  std::uint64_t shape_hash;
  std::int64_t sequence;
};
static_assert(std::is_trivially_copyable_v<Signature> && sizeof(Signature) == 40);

bool is_supported(at::ScalarType type) {
  return type == at::kDouble || type == at::kFloat || type == at::kBFloat16 || type == at::kLong ||
         type == at::kByte;
}

/// Also of the kind of memory, as tensors of two kinds take two ways.
std::uint64_t hash_shape(const at::Tensor& tensor) {
  std::uint64_t hash = 0xcbf29ce484222325U;  // FNV-1a over the sizes
  const auto add = [&](std::int64_t value) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3U;
  };
  for (const std::int64_t size : tensor.sizes()) add(size);
  add(static_cast<std::int64_t>(tensor.device().type()));
  return hash;
}

Signature signature_of(const CollectiveCall& call, std::int64_t sequence) {
  Signature s{};
  s.operation =
      static_cast<std::int32_t>(call.problem.empty() ? call.operation : Operation::kInvalid);
  s.first = call.first;
  s.second = call.second;
  s.sequence = sequence;
  if (call.problem.empty() && call.tensor.defined()) {
    s.dtype = static_cast<std::int32_t>(call.tensor.scalar_type());
    s.numel = call.tensor.numel();
    s.shape_hash = hash_shape(call.tensor);
  }
  return s;
}

/// Whether two ranks do the same thing. Receiver, sender, color and key may differ; a root may not.
bool is_same(const Signature& a, const Signature& b) {
  const bool same_root =
      a.operation != static_cast<std::int32_t>(Operation::kBroadcast) || a.first == b.first;
  return a.operation == b.operation && a.dtype == b.dtype && a.numel == b.numel &&
         a.shape_hash == b.shape_hash && a.sequence == b.sequence && same_root;
}

std::vector<std::string> gather_texts(const std::string& text, Transport& transport) {
  std::array<char, kDescriptionBytes> mine{};
  std::memcpy(mine.data(), text.data(), std::min(text.size(), kDescriptionBytes - 1));
  const auto num_ranks = static_cast<std::size_t>(transport.num_ranks());
  std::vector<std::array<char, kDescriptionBytes>> all(num_ranks);
  transport.all_gather(reinterpret_cast<const std::byte*>(mine.data()), kDescriptionBytes,
                       reinterpret_cast<std::byte*>(all.data()), kDescriptionBytes);
  std::vector<std::string> texts;
  for (const auto& one : all) texts.emplace_back(one.data());
  return texts;
}

[[noreturn]] void throw_problem(const CollectiveCall& call, const std::vector<Signature>& all,
                                Transport& transport) {
  const auto texts = gather_texts(call.problem, transport);
  std::string message;
  int named = 0;
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].operation != static_cast<std::int32_t>(Operation::kInvalid)) continue;
    if (named++ < kMostRanksNamed)
      message += triphase::str(message.empty() ? "" : "; ", "rank ", r, ": ", texts[r]);
  }
  if (named > kMostRanksNamed)
    message += triphase::str("; and ", named - kMostRanksNamed, " more ranks");
  throw CommError(message);
}

[[noreturn]] void throw_disagreement(const CollectiveCall& call, const std::vector<Signature>& all,
                                     Transport& transport) {
  const auto texts = gather_texts(call.describe(), transport);
  std::string message = triphase::str("ranks disagree on a collective: rank 0 called ", texts[0]);
  int named = 0;
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (is_same(all[r], all[0])) continue;
    if (named++ < kMostRanksNamed) message += triphase::str(", rank ", r, " called ", texts[r]);
  }
  if (named > kMostRanksNamed)
    message += triphase::str(", and ", named - kMostRanksNamed, " more differ");
  throw CommError(
      message +
      ". Every rank makes the same calls in the same order with equal shapes; look for a "
      "condition that differs between ranks.");
}

void check_partners(const std::vector<Signature>& all) {
  for (std::size_t r = 0; r < all.size(); ++r) {
    const auto& receiver = all[static_cast<std::size_t>(all[r].first)];
    TRIPHASE_CHECK(CommError, receiver.second == static_cast<std::int32_t>(r),
                   "send_receive does not match: rank ", r, " sends to rank ", all[r].first,
                   ", which expects to hear from rank ", receiver.second,
                   ". Every rank must have one sender and one receiver.");
  }
}

}  // namespace

const char* operation_name(Operation operation) {
  switch (operation) {
    case Operation::kAllReduceSum: return "all_reduce(sum)";
    case Operation::kAllReduceMax: return "all_reduce(max)";
    case Operation::kAllReduceMin: return "all_reduce(min)";
    case Operation::kAllGather: return "all_gather";
    case Operation::kReduceScatter: return "reduce_scatter";
    case Operation::kBroadcast: return "broadcast";
    case Operation::kSendReceive: return "send_receive";
    case Operation::kBarrier: return "barrier";
    case Operation::kSplit: return "split";
    case Operation::kInvalid: return "nothing";
  }
  return "unknown";
}

std::string CollectiveCall::describe() const {
  std::string text = operation_name(operation);
  if (operation == Operation::kBroadcast) text += triphase::str(" from rank ", first);
  if (tensor.defined())
    text += triphase::str(" of ", at::toString(tensor.scalar_type()), " ", tensor.sizes());
  if (tensor.defined() && !tensor.is_cpu()) text += triphase::str(" on ", tensor.device());
  return text;
}

void check_call(CollectiveCall& call, int num_ranks, std::optional<at::Device> device) {
  const auto is_rank = [&](int value) { return value >= 0 && value < num_ranks; };
  const auto note = [&](const auto&... parts) {
    call.problem = triphase::str(operation_name(call.operation), " ", parts...);
  };
  const at::Tensor& tensor = call.tensor;
  if (call.operation == Operation::kBarrier) return;
  if (call.operation == Operation::kSplit) {
    if (call.first < 0) note("got color ", call.first, "; colors are 0 or more");
    return;
  }
  if (!tensor.defined()) return note("got an undefined tensor");
  const bool is_reachable =
      tensor.is_cpu() || tensor.device() == device || num_ranks == 1;  // one rank moves nothing
  if (tensor.layout() != at::kStrided || !is_reachable)
    return note("got a tensor on device '", tensor.device(), "'; this backend moves host memory",
                device ? triphase::str(" and that of ", *device) : "", ", copy it there first");
  if (!is_supported(tensor.scalar_type()))
    return note("got dtype ", at::toString(tensor.scalar_type()),
                "; supported are Double, Float, BFloat16, Long and Byte");
  if (!tensor.is_contiguous())
    return note("got a tensor ", tensor.sizes(), " that is not contiguous (strides ",
                tensor.strides(), "); call contiguous() first");
  if (call.operation == Operation::kBroadcast && !is_rank(call.first))
    return note("got root ", call.first, "; ranks are 0 to ", num_ranks - 1);
  if (call.operation == Operation::kSendReceive && !(is_rank(call.first) && is_rank(call.second)))
    return note("got ranks ", call.first, " and ", call.second, "; ranks are 0 to ", num_ranks - 1);
  const bool by_rows =
      call.operation == Operation::kAllGather || call.operation == Operation::kReduceScatter;
  if (by_rows && tensor.dim() < 1) return note("got a 0-dim tensor; it works on rows");
  if (call.operation == Operation::kReduceScatter && tensor.size(0) % num_ranks != 0)
    return note("got ", tensor.sizes(), ", whose ", tensor.size(0), " rows cannot be divided by ",
                num_ranks, " ranks");
}

void check_ranks_agree(const CollectiveCall& call, std::int64_t sequence, Transport& transport) {
  const Signature mine = signature_of(call, sequence);
  std::vector<Signature> all(static_cast<std::size_t>(transport.num_ranks()));
  transport.all_gather(reinterpret_cast<const std::byte*>(&mine), sizeof(Signature),
                       reinterpret_cast<std::byte*>(all.data()), sizeof(Signature));
  bool same = true;
  for (const Signature& other : all) {
    if (other.operation == static_cast<std::int32_t>(Operation::kInvalid))
      throw_problem(call, all, transport);
    same = same && is_same(other, all[0]);
  }
  if (!same) throw_disagreement(call, all, transport);
  if (call.operation == Operation::kSendReceive) check_partners(all);
}

}  // namespace triphase::dist
