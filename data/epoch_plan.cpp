// SPDX-License-Identifier: Apache-2.0
#include "data/epoch_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>

#include "base/error.hpp"
#include "base/random.hpp"

namespace triphase::data {
namespace {

using Mode = SamplerOptions::Mode;
using Indices = std::vector<std::int64_t>;

// Keep these orders apart from each other and from other uses of a seed.
constexpr std::uint64_t kPurpose = 0x65706f6368;  // "epoch"
constexpr std::uint64_t kWithinPatient = 1, kLeftOut = 2, kSteps = 3, kWithinSite = 4,
                        kWithinStep = 5;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

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

/// Samples of each group, in their order.
std::vector<Indices> members(const EpochPlanOptions& o) {
  TRIPHASE_CHECK(InternalError, static_cast<std::int64_t>(o.groups.size()) == o.num_samples,
                 o.groups.size(), " groups for ", o.num_samples, " samples");
  std::vector<Indices> found;
  for (std::int64_t i = 0; i < o.num_samples; ++i) {
    const std::size_t group = at(o.groups[at(i)]);
    if (group >= found.size()) found.resize(group + 1);
    found[group].push_back(i);
  }
  return found;
}

KeyedRandom random_for(const EpochPlanOptions& o, std::uint64_t use, std::int64_t which) {
  return {o.seed, static_cast<std::uint64_t>(o.epoch), kPurpose, use,
          static_cast<std::uint64_t>(which)};
}

Indices permuted(const Indices& values, KeyedRandom random) {
  Indices out;
  out.reserve(values.size());
  for (const std::int64_t i :
       keyed_permutation(static_cast<std::int64_t>(values.size()), random))
    out.push_back(values[at(i)]);
  return out;
}

Indices whole_permutation(const EpochPlanOptions& o) {
  return keyed_permutation(o.num_samples, {o.seed, static_cast<std::uint64_t>(o.epoch), kPurpose});
}

/// Places in `num_steps` batches that a patient each of them holds once can fill.
std::int64_t usable_samples(const std::vector<Indices>& patients, std::int64_t num_steps) {
  std::int64_t sum = 0;
  for (const Indices& patient : patients)
    sum += std::min(static_cast<std::int64_t>(patient.size()), num_steps);
  return sum;
}

/// The most steps without a patient twice in a batch. So many exist exactly when the patients, each
/// at most once in a batch, fill all places; and then fewer exist, too.
std::int64_t patient_distinct_steps(const EpochPlanOptions& o) {
  const std::vector<Indices> patients = members(o);
  std::int64_t fits = 0, fails = o.num_samples / o.global_pairs + 1;
  while (fails - fits > 1) {
    const std::int64_t middle = (fits + fails) / 2;
    (usable_samples(patients, middle) >= middle * o.global_pairs ? fits : fails) = middle;
  }
  TRIPHASE_CHECK(ConfigError, fits > 0, "the split has ", patients.size(),
                 " patients, too few for one global batch of ", o.global_pairs,
                 " pairs in which no patient is twice. Lower batch.global_pairs, or set "
                 "data.sampler to 'shuffle'.");
  return fits;
}

// Note [Patients apart]
// Patients come in a random order, each with its samples in a row and with no more of them than
// there are steps; dealt out like cards to the steps, no step gets a patient twice.
Indices patient_distinct_order(const EpochPlanOptions& o) {
  const std::vector<Indices> patients = members(o);
  const std::int64_t steps = steps_per_epoch(o);
  Indices row;
  Indices all(patients.size());
  for (std::size_t p = 0; p < all.size(); ++p) all[p] = static_cast<std::int64_t>(p);
  for (const std::int64_t p : permuted(all, {o.seed, static_cast<std::uint64_t>(o.epoch), kPurpose})) {
    const Indices samples = permuted(patients[at(p)], random_for(o, kWithinPatient, p));
    row.insert(row.end(), samples.begin(),
               samples.begin() + std::min<std::ptrdiff_t>(std::ssize(samples), steps));
  }
  const auto num_left_out = std::ssize(row) - steps * o.global_pairs;
  const Indices lots =
      keyed_permutation(std::ssize(row), random_for(o, kLeftOut, 0));
  const Indices place = keyed_permutation(steps, random_for(o, kSteps, 0));
  Indices order(at(steps * o.global_pairs));
  std::int64_t dealt = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (lots[i] < num_left_out) continue;
    order[at(place[at(dealt % steps)] * o.global_pairs + dealt / steps)] = row[i];
    ++dealt;
  }
  return order;
}

// Note [Shares of sites]
// The site of each place in the order is the one that is furthest behind its share. So a site is
// never ahead of its share by a sample, however few pairs a batch has, and with shares in proportion
// to size no sample is read twice.
Indices sites_of_places(const std::vector<Indices>& sites, double power, std::int64_t num_places) {
  std::vector<double> share;
  double sum = 0;
  for (const Indices& site : sites)
    share.push_back(site.empty() ? 0 : std::pow(static_cast<double>(site.size()), power));
  for (const double value : share) sum += value;
  std::vector<double> taken(sites.size(), 0);
  Indices places;
  places.reserve(at(num_places));
  for (std::int64_t j = 0; j < num_places; ++j) {
    std::size_t chosen = 0;
    double most = -1;
    for (std::size_t s = 0; s < sites.size(); ++s) {
      const double behind = share[s] * static_cast<double>(j + 1) / sum - taken[s];
      if (share[s] > 0 && behind > most) {
        most = behind;
        chosen = s;
      }
    }
    ++taken[chosen];
    places.push_back(static_cast<std::int64_t>(chosen));
  }
  return places;
}

void check_shares(const EpochPlanOptions& o) {
  const std::vector<Indices> sites = members(o);
  const std::int64_t num_places = o.num_samples / o.global_pairs * o.global_pairs;
  const Indices places = sites_of_places(sites, o.sampler.site_power, num_places);
  for (std::int64_t begin = 0; begin < num_places; begin += o.global_pairs) {
    Indices wanted(sites.size());
    for (std::int64_t j = begin; j < begin + o.global_pairs; ++j) ++wanted[at(places[at(j)])];
    for (std::size_t s = 0; s < sites.size(); ++s)
      TRIPHASE_CHECK(ConfigError, wanted[s] <= std::ssize(sites[s]), "a site has ", sites[s].size(),
                     " samples in the split, and its share of a global batch of ", o.global_pairs,
                     " pairs is ", wanted[s],
                     ". Lower batch.global_pairs, set data.site_quota to 'proportional', or leave "
                     "the site out of data.sites.");
  }
}

/// The samples of one site, in one random order after another.
class SiteStream {
 public:
  SiteStream(const EpochPlanOptions& options, const Indices& samples, std::int64_t site)
      : samples_(samples), random_(random_for(options, kWithinSite, site)) {}
  /// The next one that is not in `batch`; there is one.
  std::int64_t next(const std::set<std::int64_t>& batch) {
    if (queue_.empty()) {  // read from its end
      queue_ = permuted(samples_, {random_.bits()});
      std::stable_partition(queue_.begin(), queue_.end(),
                            [&](std::int64_t sample) { return batch.contains(sample); });
    }
    const std::int64_t sample = queue_.back();
    queue_.pop_back();
    return sample;
  }

 private:
  const Indices& samples_;
  KeyedRandom random_;
  Indices queue_;
};

Indices by_site_order(const EpochPlanOptions& o) {
  const std::vector<Indices> sites = members(o);
  const std::int64_t steps = steps_per_epoch(o);
  const Indices places = sites_of_places(sites, o.sampler.site_power, steps * o.global_pairs);
  std::vector<SiteStream> streams;
  for (std::size_t s = 0; s < sites.size(); ++s)
    streams.emplace_back(o, sites[s], static_cast<std::int64_t>(s));
  Indices order;
  for (std::int64_t step = 0; step < steps; ++step) {
    std::set<std::int64_t> batch;
    Indices drawn;
    for (std::int64_t j = step * o.global_pairs; j < (step + 1) * o.global_pairs; ++j) {
      drawn.push_back(streams[at(places[at(j)])].next(batch));
      batch.insert(drawn.back());
    }
    // A rank reads a stretch of the batch, in which no site should be at home.
    const Indices mixed = permuted(drawn, random_for(o, kWithinStep, step));
    order.insert(order.end(), mixed.begin(), mixed.end());
  }
  return order;
}

Indices epoch_order(const EpochPlanOptions& o) {
  if (o.sampler.mode == Mode::kPatientDistinct) return patient_distinct_order(o);
  if (o.sampler.mode == Mode::kBySite) return by_site_order(o);
  return whole_permutation(o);
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

std::int64_t steps_per_epoch(const EpochPlanOptions& options) {
  const std::int64_t steps = steps_per_epoch(options.num_samples, options.global_pairs);
  if (options.sampler.mode == Mode::kPatientDistinct) return patient_distinct_steps(options);
  if (options.sampler.mode == Mode::kBySite) check_shares(options);
  return steps;
}

std::vector<std::int64_t> plan_epoch(const EpochPlanOptions& options) {
  check_options(options);
  const std::int64_t steps = steps_per_epoch(options);
  const Indices order = epoch_order(options);
  const std::int64_t per_rank = options.global_pairs / options.num_ranks;
  Indices mine;
  mine.reserve(at(steps * per_rank));
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto begin = order.begin() + step * options.global_pairs + options.rank * per_rank;
    mine.insert(mine.end(), begin, begin + per_rank);
  }
  return mine;
}

}  // namespace triphase::data
