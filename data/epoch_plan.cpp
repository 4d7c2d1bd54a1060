// SPDX-License-Identifier: Apache-2.0
#include "data/epoch_plan.hpp"

#include "base/error.hpp"
#include "base/random.hpp"

namespace triphase::data {
namespace {

constexpr std::uint64_t kPurpose =
    0x65706f6368;  // "epoch": keeps this order apart from other uses of a seed

void check_options(const EpochPlanOptions& o) {
  TRIPHASE_CHECK(ConfigError, o.num_ranks >= 1, "the number of ranks is ", o.num_ranks,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, o.rank >= 0 && o.rank < o.num_ranks, "rank is ", o.rank,
                 ", expected 0 to ", o.num_ranks - 1, ".");
  TRIPHASE_CHECK(ConfigError, o.epoch >= 0, "epoch is ", o.epoch, ", expected at least 0.");
  TRIPHASE_CHECK(ConfigError, o.global_pairs > 0 && o.global_pairs % o.num_ranks == 0,
                 "batch.global_pairs is ", o.global_pairs, ", expected a positive multiple of the ",
                 o.num_ranks, " ranks.");
}

}  // namespace

std::int64_t steps_per_epoch(std::int64_t num_samples, std::int64_t global_pairs) {
  TRIPHASE_CHECK(ConfigError, global_pairs > 0, "batch.global_pairs is ", global_pairs,
                 ", expected at least 1.");
  TRIPHASE_CHECK(ConfigError, num_samples >= global_pairs, "the split has ", num_samples,
                 " samples, too few for one global batch of ", global_pairs,
                 " pairs. Set batch.global_pairs to at most ", num_samples, " or add samples.");
  return num_samples / global_pairs;
}

std::vector<std::int64_t> plan_epoch(const EpochPlanOptions& options) {
  check_options(options);
  const std::int64_t steps = steps_per_epoch(options.num_samples, options.global_pairs);
  const auto order = keyed_permutation(
      options.num_samples, {options.seed, static_cast<std::uint64_t>(options.epoch), kPurpose});
  const std::int64_t per_rank = options.global_pairs / options.num_ranks;
  std::vector<std::int64_t> mine;
  mine.reserve(static_cast<std::size_t>(steps * per_rank));
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto begin = order.begin() + step * options.global_pairs + options.rank * per_rank;
    mine.insert(mine.end(), begin, begin + per_rank);
  }
  return mine;
}

}  // namespace triphase::data
