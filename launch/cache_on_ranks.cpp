// SPDX-License-Identifier: Apache-2.0
#include "launch/cache_on_ranks.hpp"

#include "base/file.hpp"
#include "base/json.hpp"
#include "dist/agree_during.hpp"
#include "dist/runtime.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <system_error>

namespace triphase::launch {
namespace {

/// Each shard was looked at by one rank; afterwards all ranks know of all.
void share_up_to_date(data::CachePlan& plan, dist::ProcessGroup& group) {
  at::Tensor flags = at::zeros({static_cast<std::int64_t>(plan.shards.size())}, at::kByte);
  auto* mine = flags.data_ptr<std::uint8_t>();
  for (std::size_t i = 0; i < plan.shards.size(); ++i) mine[i] = plan.shards[i].up_to_date ? 1 : 0;
  const at::Tensor all = group.all_reduce(flags, dist::ReduceOp::kMax)->wait();
  const auto* found = all.data_ptr<std::uint8_t>();
  for (std::size_t i = 0; i < plan.shards.size(); ++i) plan.shards[i].up_to_date = found[i] != 0;
}

std::int64_t sum_over(dist::ProcessGroup& group, std::int64_t value) {
  return group.all_reduce(at::full({1}, value, at::kLong), dist::ReduceOp::kSum)
      ->wait()
      .item<std::int64_t>();
}

std::int64_t from_rank_0(dist::ProcessGroup& group, std::int64_t value) {
  return group.broadcast(at::full({1}, value, at::kLong), 0)->wait().item<std::int64_t>();
}

/// Every rank's on all ranks, in manifest order; one text a rank, however many there are.
std::vector<data::FailedStudy> gather_failed(dist::ProcessGroup& group,
                                             const std::vector<data::FailedStudy>& mine) {
  Json own = Json::array();
  for (const data::FailedStudy& study : mine)
    own.push_back({study.record_index, study.id, study.line, study.reason});
  std::vector<data::FailedStudy> all;
  for (const std::string& text : dist::gather_texts(group, {own.dump()}))
    for (const Json& study : Json::parse(text))
      all.push_back({study[0].get<std::int64_t>(), study[1].get<std::string>(),
                     study[2].get<std::int64_t>(), study[3].get<std::string>()});
  std::sort(all.begin(), all.end(), [](const data::FailedStudy& a, const data::FailedStudy& b) {
    return a.record_index < b.record_index;
  });
  return all;
}

}  // namespace

double round_seconds(double timeout_seconds) { return std::min(20.0, timeout_seconds / 20); }

data::CachePlan plan_cache_on_ranks(const data::CacheBuildOptions& options,
                                    dist::ProcessGroup& group, double round_seconds,
                                    const std::function<void()>& after_study) {
  data::CachePlan plan;
  dist::agree_on(group, [&] {
    make_output_directory(options.out_dir);
    plan = data::divide_manifest(options, group.num_ranks());
  });
  dist::agree_equal(group, plan.spec.hash(), "cache specification");
  dist::agree_equal(group, std::to_string(plan.manifest.records.size()),
                    "how many studies the manifest holds");
  // The division may hang on an earlier build, which this rank may not see yet.
  data::divide_into_shards(
      plan, std::stoll(dist::broadcast_text(group, std::to_string(plan.volumes_per_shard))));
  dist::agree_during(group, round_seconds, [&](const std::function<void()>& after_piece) {
    data::find_up_to_date_shards(plan, group.rank(), group.num_ranks(), [&] {
      after_study();
      after_piece();
    });
  });  // all have looked before anyone writes
  share_up_to_date(plan, group);
  return plan;
}

std::int64_t num_volumes_to_build(const data::CachePlan& plan, int rank, int num_ranks) {
  std::int64_t mine = 0;
  std::int64_t stale_index = 0;
  for (const data::ShardTask& shard : plan.shards) {
    if (shard.up_to_date) continue;
    if (stale_index++ % num_ranks == rank)
      mine += static_cast<std::int64_t>(shard.record_indices.size());
  }
  return mine;
}

BuildReport build_cache_on_ranks(const data::CachePlan& plan, dist::ProcessGroup& group,
                                 double round_seconds, const std::function<void()>& on_volume) {
  BuildReport report;
  std::vector<data::FailedStudy> failed;
  dist::agree_during(group, round_seconds, [&](const std::function<void()>& after_piece) {
    failed = data::build_cache_shards(plan, group.rank(), group.num_ranks(), [&] {
      on_volume();
      after_piece();
    });
  });
  report.num_built = plan.num_stale_volumes() -
                     sum_over(group, static_cast<std::int64_t>(failed.size()));
  failed.insert(failed.end(), plan.failed.begin(), plan.failed.end());
  report.failed = gather_failed(group, failed);
  dist::agree_during(group, round_seconds, [&](const std::function<void()>& after_piece) {
    if (group.rank() == 0) report.totals = data::finish_cache(plan, report.failed, after_piece);
  });
  report.totals.num_volumes = from_rank_0(group, report.totals.num_volumes);
  report.totals.num_shards = from_rank_0(group, report.totals.num_shards);
  report.totals.bytes = from_rank_0(group, report.totals.bytes);
  return report;
}

VerifiedCache verify_cache_on_ranks(const std::filesystem::path& folder, dist::ProcessGroup& group,
                                    double round_seconds, const std::function<void()>& on_volume) {
  VerifiedCache found;
  dist::agree_during(group, round_seconds, [&](const std::function<void()>& after_piece) {
    found.damaged = data::verify_cache(
        folder,
        [&] {
          ++found.num_volumes;
          on_volume();
          after_piece();
        },
        group.rank(), group.num_ranks());
  });
  found.damaged = dist::gather_texts(group, found.damaged);
  // Damage of cache.json is what every rank finds.
  found.damaged.erase(std::unique(found.damaged.begin(), found.damaged.end()), found.damaged.end());
  found.num_volumes = sum_over(group, found.num_volumes);
  return found;
}

DataError damage_error(const std::filesystem::path& folder,
                       const std::vector<std::string>& damaged) {
  std::vector<std::string> files;  // that are there to be deleted
  for (const std::string& line : damaged) {
    const std::string name = line.substr(0, line.find(':'));
    std::error_code ignored;  // not there, or not to be seen: nothing to delete
    if ((files.empty() || files.back() != name) && std::filesystem::exists(folder / name, ignored))
      files.push_back(name);
  }
  std::string names;
  for (const std::string& name : files) names += (names.empty() ? "" : ", ") + name;
  return DataError(str("cache '", folder.string(), "' has ", damaged.size(),
                       damaged.size() == 1 ? " damaged place" : " damaged places",
                       " (listed above). ",
                       names.empty() ? "Run" : str("Delete ", names, " there and run"),
                       " triphase cache build again: it builds what is missing from the images."));
}

}  // namespace triphase::launch
