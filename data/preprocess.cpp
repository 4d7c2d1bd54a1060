// SPDX-License-Identifier: Apache-2.0
#include "data/preprocess.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "data/sampling.hpp"

namespace triphase::data {
namespace {

/// Everything that both ways of sampling need.
struct Task {
  const float* voxels = nullptr;  ///< of the scan, at index (0,0,0) of plan.source
  const SamplingPlan& plan;
  Window window;
};

double blend(double a, double b, double weight) { return a + (b - a) * weight; }

/// A table with places in memory instead of indices.
std::vector<Neighbours> places(const SamplingPlan& plan, std::size_t axis) {
  std::vector<Neighbours> table = axis_table(plan, axis);
  for (Neighbours& entry : table) {
    entry.low *= plan.source.strides[axis];
    entry.high *= plan.source.strides[axis];
  }
  return table;
}

/// A grid that is only zoomed. prepare_kernel_lanes.hpp has the same sums in the same order.
void sample_by_axis(const Task& task, Volume& out) {
  const std::vector<Neighbours> table_z = places(task.plan, 2);
  const std::vector<Neighbours> table_y = places(task.plan, 1);
  std::int64_t x = task.plan.fit[0].first;
  for (const Neighbours& nx : places(task.plan, 0)) {
    std::int64_t y = task.plan.fit[1].first;
    for (const Neighbours& ny : table_y) {
      const float* line00 = task.voxels + nx.low + ny.low;
      const float* line01 = task.voxels + nx.low + ny.high;
      const float* line10 = task.voxels + nx.high + ny.low;
      const float* line11 = task.voxels + nx.high + ny.high;
      const double w11 = nx.weight * ny.weight;
      const double w10 = nx.weight - w11;
      const double w01 = ny.weight - w11;
      const double w00 = 1 - nx.weight - w01;
      const auto across = [&](std::int64_t k) {
        return w00 * static_cast<double>(line00[k]) + w01 * static_cast<double>(line01[k]) +
               w10 * static_cast<double>(line10[k]) + w11 * static_cast<double>(line11[k]);
      };
      float* row = &out.at(x, y, task.plan.fit[2].first);
      for (const Neighbours& nz : table_z)
        *row++ = task.window(blend(across(nz.low), across(nz.high), nz.weight));
      ++y;
    }
    ++x;
  }
}

double sample_at(const Task& task, const Vector3& coordinate) {
  const GridView& source = task.plan.source;
  std::array<Neighbours, 3> n;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    n[axis] = neighbours(coordinate[axis], source.shape[axis]);
    n[axis].low *= source.strides[axis];
    n[axis].high *= source.strides[axis];
  }
  const auto along_z = [&](std::int64_t place) {
    return blend(static_cast<double>(task.voxels[place + n[2].low]),
                 static_cast<double>(task.voxels[place + n[2].high]), n[2].weight);
  };
  const auto along_y = [&](std::int64_t place) {
    return blend(along_z(place + n[1].low), along_z(place + n[1].high), n[1].weight);
  };
  return blend(along_y(n[0].low), along_y(n[0].high), n[0].weight);
}

/// A sheared scan: every voxel has a place of its own.
void sample_anywhere(const Task& task, Volume& out) {
  const auto& [fx, fy, fz] = task.plan.fit;
  for (std::int64_t x = fx.first; x < fx.last; ++x)
    for (std::int64_t y = fy.first; y < fy.last; ++y)
      for (std::int64_t z = fz.first; z < fz.last; ++z) {
        const Vector3 index{static_cast<double>(x + fx.shift), static_cast<double>(y + fy.shift),
                            static_cast<double>(z + fz.shift)};
        out.at(x, y, z) =
            task.window(sample_at(task, apply(task.plan.resampled.index_map, index)));
      }
}

std::vector<float> clipped(const std::vector<float>& voxels, const PreprocessOptions& options) {
  const auto low = static_cast<float>(options.window_hu[0]);
  const auto high = static_cast<float>(options.window_hu[1]);
  std::vector<float> result(voxels.size());
  std::transform(voxels.begin(), voxels.end(), result.begin(),
                 [&](float hu) { return std::min(std::max(hu, low), high); });
  return result;
}

}  // namespace

Volume preprocess(const Volume& scan, const PreprocessOptions& options) {
  check_preprocess_options(options);
  TRIPHASE_CHECK(InternalError,
                 scan.size() > 0 && static_cast<std::int64_t>(scan.voxels.size()) == scan.size(),
                 "a scan of shape ", scan.shape[0], "x", scan.shape[1], "x", scan.shape[2], " has ",
                 scan.voxels.size(), " voxels");
  const SamplingPlan plan = plan_sampling(scan.shape, scan.affine, options);
  std::vector<float> clipped_voxels;
  const float* voxels = scan.voxels.data();
  if (clips_first(options)) {
    clipped_voxels = clipped(scan.voxels, options);
    voxels = clipped_voxels.data();
  }
  const Task task{voxels + plan.source.start, plan, Window(options)};
  Volume out;
  out.shape = options.volume_shape;
  out.affine = plan.affine;
  out.voxels.assign(static_cast<std::size_t>(out.size()), static_cast<float>(options.padding));
  if (plan.is_by_axis)
    sample_by_axis(task, out);
  else
    sample_anywhere(task, out);
  return out;
}

}  // namespace triphase::data
