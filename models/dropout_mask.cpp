// SPDX-License-Identifier: Apache-2.0
#include "models/dropout_mask.hpp"

#include "base/error.hpp"
#include "base/random.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <string>

// Of LibTorch's CUDA library, declared as in ATen/cuda/jiterator.h; null where that library is not loaded.
namespace at::cuda {
__attribute__((weak)) c10::SmallVector<at::Tensor> CompileAndLaunchKernel(
    const std::string& code_string, const std::string& kernel_name, const int num_outputs,
    const c10::SmallVector<at::Tensor>& tensors, const c10::SmallVector<at::Scalar>& extra_args, bool return_by_ref);
}  // namespace at::cuda

namespace triphase::models {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;
/// Both halves of 64 bits less 2^31: unsigned numbers that signed operators compare rightly.
constexpr std::uint64_t kSigns = 0x8000000080000000ULL;

std::int64_t number(std::uint64_t bits) { return static_cast<std::int64_t>(bits); }

/// 0, 1, ... count - 1 of a device, kept from call to call.
at::Tensor counting(std::int64_t count, const at::TensorOptions& options) {
  thread_local at::Tensor kept;
  if (!kept.defined() || kept.size(0) < count || kept.device() != options.device())
    kept = at::arange(count, options);
  return kept.narrow(0, 0, count);
}

/// Of the same numbers as start_of() and pair_bits() in dropout.cpp: bits of a pair of columns, less kSigns.
/// `key` is of the sample, `row` of the sample's rows, `pair` of the pairs of columns.
const std::string kName = "dropout_bits";
const std::string kCode = R"(
template <typename T>
T dropout_bits(T key, T row, T pair, T salt, T rows_per_head, T heads, T stride, T keys_before) {
  typedef unsigned long long Bits;
  auto mix64 = [](Bits x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
  };
  const T offset = row / rows_per_head / heads * stride;
  const Bits place = Bits(row / rows_per_head % heads) << 32 | Bits(offset + row % rows_per_head);
  const Bits row_key = mix64(mix64(Bits(key) ^ Bits(salt)) ^ mix64(place));
  const T first_pair = (offset - keys_before) >> 1;
  return T(mix64(row_key + Bits(first_pair + pair) * 0x9e3779b97f4a7c15ULL) ^ 0x8000000080000000ULL);
})";

/// [samples, rows of a sample, pairs]
at::Tensor bits_by_kernel(const at::Tensor& bases, std::uint64_t salt, const DropoutRows& rows, std::int64_t num_pairs) {
  const AttentionRows& attention = rows.attention;
  const std::int64_t rows_of_sample = attention.num_chunks * rows.heads * rows.rows_per_head;
  const c10::SmallVector<at::Tensor> tensors{
      bases.view({-1, 1, 1}), counting(rows_of_sample, bases.options()).view({-1, 1}),
      counting(num_pairs, bases.options())};
  const c10::SmallVector<at::Scalar> scalars{number(salt), rows.rows_per_head, rows.heads, attention.stride,
                                             attention.keys_before};
  return at::cuda::CompileAndLaunchKernel(kCode, kName, /*num_outputs=*/1, tensors, scalars, /*return_by_ref=*/false)[0];
}

/// The same by LibTorch's operators.
at::Tensor bits_by_operators(const at::Tensor& bases, std::uint64_t salt, const DropoutRows& rows,
                             std::int64_t num_pairs) {
  const auto options = bases.options();
  at::Tensor sample_keys = bases.bitwise_xor(number(salt));
  mix64_(sample_keys);
  const at::Tensor offset =
      counting(rows.attention.num_chunks, options).mul(rows.attention.stride).view({-1, 1, 1});
  const at::Tensor head = counting(rows.heads, options).mul(std::int64_t{1} << 32).view({-1, 1});
  at::Tensor place = head + offset + counting(rows.rows_per_head, options);
  at::Tensor row_keys = sample_keys.view({-1, 1, 1, 1}).bitwise_xor(mix64_(place));
  const at::Tensor first_pair = (offset - rows.attention.keys_before).bitwise_right_shift(1);
  row_keys = mix64_(row_keys) + first_pair.mul(number(kGolden));
  at::Tensor bits = row_keys.flatten(1).unsqueeze(2) + counting(num_pairs, options).mul(number(kGolden));
  return mix64_(bits).bitwise_xor_(number(kSigns));
}

at::Tensor bits_of(const at::Tensor& bases, std::uint64_t salt, const DropoutRows& rows, std::int64_t num_pairs,
                   bool may_compile) {
  static std::atomic<bool> compiles{true};  // until it fails, e.g. for want of the compiler's library
  const bool has_compiler = at::cuda::CompileAndLaunchKernel != nullptr;
  if (may_compile && has_compiler && bases.is_cuda() && compiles) {
    try {
      return bits_by_kernel(bases, salt, rows, num_pairs);
    } catch (const c10::OutOfMemoryError&) {
      throw;
    } catch (const c10::Error&) {
      compiles = false;
    }
  }
  return bits_by_operators(bases, salt, rows, num_pairs);
}

}  // namespace

at::Tensor& mix64_(at::Tensor& x) {
  const auto fold = [&](std::int64_t shift) {  // >> keeps the sign, which is masked away
    x.bitwise_xor_(at::bitwise_right_shift(x, shift).bitwise_and_((std::int64_t{1} << (64 - shift)) - 1));
  };
  x.add_(number(kGolden));
  fold(30);
  x.mul_(number(0xbf58476d1ce4e5b9ULL));
  fold(27);
  x.mul_(number(0x94d049bb133111ebULL));
  fold(31);
  return x;
}

std::uint32_t dropout_threshold(double p) {
  return static_cast<std::uint32_t>(std::min(p * 0x1p32, 0x1p32 - 1));
}

at::Tensor dropped_elements(const at::Tensor& bases, std::uint64_t salt, double p, const DropoutRows& rows,
                            bool may_compile) {
  const AttentionRows& attention = rows.attention;
  TRIPHASE_CHECK(InternalError, attention.num_chunks == 1 || attention.stride % 2 == 0, "chunks of ", attention.stride,
                 " queries: for a mask their number must be even");
  const std::int64_t parity = attention.keys_before & 1;
  const std::int64_t num_pairs = (rows.columns + parity + 1) / 2;
  // Two columns share 64 bits, which lie in memory as their two numbers do.
  const at::Tensor bits =
      bits_of(bases, salt, rows, num_pairs, may_compile).view({-1, num_pairs}).view(at::kInt);
  return bits.narrow(1, parity, rows.columns) < static_cast<std::int32_t>(dropout_threshold(p) ^ 0x80000000U);
}

}  // namespace triphase::models
