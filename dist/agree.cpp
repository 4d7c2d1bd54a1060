// SPDX-License-Identifier: Apache-2.0
#include "base/hash.hpp"
#include "dist/runtime.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <vector>

namespace triphase::dist {
namespace {

constexpr std::int64_t kWindowBytes = 160;  ///< of two differing texts, what is shown of each
constexpr int kMostRanksNamed = 4;

at::Tensor scalar_of(std::int64_t value) { return at::full({1}, value, at::kLong); }

std::int64_t value_of(const at::Tensor& tensor) { return *tensor.data_ptr<std::int64_t>(); }

at::Tensor bytes_of(const std::string& text, std::int64_t num_bytes) {
  at::Tensor bytes = at::full({num_bytes}, 0, at::kByte);
  const auto n = std::min(static_cast<std::size_t>(num_bytes), text.size());
  if (n > 0) std::memcpy(bytes.data_ptr(), text.data(), n);
  return bytes;
}

std::string text_of(const std::uint8_t* bytes, std::int64_t num_bytes) {
  return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(num_bytes)};
}

/// What both texts hold from shortly before their first difference on.
std::string window_of(const std::string& text, const std::string& other) {
  const auto end = std::mismatch(text.begin(), text.end(), other.begin(), other.end()).first;
  const auto common = static_cast<std::size_t>(end - text.begin());
  const std::size_t begin = common > kWindowBytes / 2 ? common - kWindowBytes / 2 : 0;
  return (begin > 0 ? "..." : "") + text.substr(begin, kWindowBytes - 3);
}

}  // namespace

std::string broadcast_text(ProcessGroup& group, const std::string& text, int root) {
  const at::Tensor length =
      group.broadcast(scalar_of(static_cast<std::int64_t>(text.size())), root)->wait();
  const std::int64_t num_bytes = value_of(length);
  const at::Tensor bytes = group.broadcast(bytes_of(text, num_bytes), root)->wait();
  return text_of(bytes.data_ptr<std::uint8_t>(), num_bytes);
}

std::vector<std::string> gather_texts(ProcessGroup& group, const std::vector<std::string>& texts) {
  const at::Tensor counts =
      group.all_gather(scalar_of(static_cast<std::int64_t>(texts.size())))->wait();
  std::vector<std::string> all;
  for (int r = 0; r < group.num_ranks(); ++r)
    for (std::int64_t i = 0; i < counts.data_ptr<std::int64_t>()[r]; ++i)
      all.push_back(
          broadcast_text(group, r == group.rank() ? texts[static_cast<std::size_t>(i)] : "", r));
  return all;
}

Error error_of(const std::exception& caught) {
  constexpr const char* kRemedy =
      "Lower batch.micro_pairs (gradient caching: the same numbers in less memory) or evaluate.batch_size, or use "
      "precision.recompute = \"blocks\".";
  if (const auto* known = dynamic_cast<const Error*>(&caught)) return *known;
  if (const auto* gpu = dynamic_cast<const c10::OutOfMemoryError*>(&caught))
    return {"MemoryError", str("the GPU's memory is full. ", kRemedy, "\n  LibTorch: ", gpu->what_without_backtrace()),
            ExitCode::kCommunication};
  if (dynamic_cast<const std::bad_alloc*>(&caught) != nullptr)
    return InternalError(str("memory is full. ", kRemedy));
  return InternalError(caught.what());
}

void agree(ProcessGroup& group, const std::optional<Error>& error) {
  const int num_ranks = group.num_ranks();
  const int mine = error ? group.rank() : num_ranks;
  const auto failing =
      static_cast<int>(value_of(group.all_reduce(scalar_of(mine), ReduceOp::kMin)->wait()));
  if (failing == num_ranks) return;
  const auto code = value_of(
      group
          .broadcast(scalar_of(error ? static_cast<std::int64_t>(error->exit_code()) : 0), failing)
          ->wait());
  const std::string kind = broadcast_text(group, error ? error->kind() : "", failing);
  const std::string text = broadcast_text(group, error ? error->what() : "", failing);
  const std::string prefix = num_ranks > 1 ? str("rank ", failing, " of ", num_ranks, ": ") : "";
  throw AgreedError(failing, kind, prefix + text, static_cast<ExitCode>(code));
}

void agree_equal(ProcessGroup& group, const std::string& value, const std::string& what) {
  at::Tensor mine = at::empty({1, 2}, at::kLong);
  mine.data_ptr<std::int64_t>()[0] = static_cast<std::int64_t>(value.size());
  mine.data_ptr<std::int64_t>()[1] = static_cast<std::int64_t>(xxh3(value));
  const at::Tensor all = group.all_gather(mine)->wait();
  const auto* keys = all.data_ptr<std::int64_t>();
  std::vector<int> differing;
  for (int r = 1; r < group.num_ranks(); ++r)
    if (keys[2 * r] != keys[0] || keys[2 * r + 1] != keys[1]) differing.push_back(r);
  if (differing.empty()) return;

  const std::string first = broadcast_text(group, value);
  const at::Tensor windows =
      group.all_gather(bytes_of(window_of(value, first), kWindowBytes).unsqueeze(0))->wait();
  const auto shown = [&](int rank) {
    const std::string text =
        text_of(windows.data_ptr<std::uint8_t>() + rank * kWindowBytes, kWindowBytes);
    return text.substr(0, text.find('\0'));
  };
  const std::string
      of_rank_0 =  // from where the first differing rank differs: known there, so told by it
      broadcast_text(group, window_of(first, value), differing[0]);
  std::string message = str("ranks disagree on ", what, ": rank 0 has '", of_rank_0, "'");
  for (std::size_t i = 0; i < differing.size() && i < kMostRanksNamed; ++i)
    message += str(", rank ", differing[i], " has '", shown(differing[i]), "'");
  if (differing.size() > kMostRanksNamed)
    message += str(", and ", differing.size() - kMostRanksNamed, " more");
  // All ranks know the message now; the first that differs is the one to tell it.
  throw AgreedError(differing[0], CommError(message + ". Give every rank the same."));
}

bool any_rank(ProcessGroup& group, bool value) {
  return value_of(group.all_reduce(scalar_of(value ? 1 : 0), ReduceOp::kMax)->wait()) != 0;
}

}  // namespace triphase::dist
