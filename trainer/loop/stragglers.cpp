// SPDX-License-Identifier: Apache-2.0
#include "trainer/loop/stragglers.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <vector>

namespace triphase::trainer {
namespace {

constexpr std::array kPhases{"data", "forward", "backward", "optimizer"};
constexpr auto kNumPhases = static_cast<std::int64_t>(kPhases.size());

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

OwnSeconds& OwnSeconds::operator+=(const OwnSeconds& more) {
  data += more.data;
  forward += more.forward;
  backward += more.backward;
  optimizer += more.optimizer;
  return *this;
}

Json straggler_figures(dist::ProcessGroup& group, const OwnSeconds& sum, std::int64_t num_steps) {
  const std::array mine{sum.data, sum.forward, sum.backward, sum.optimizer};
  at::Tensor row = at::empty({1, kNumPhases}, at::kDouble);
  for (std::size_t i = 0; i < mine.size(); ++i)
    row.data_ptr<double>()[i] = mine[i] / static_cast<double>(num_steps);
  const at::Tensor all = group.all_gather(row)->wait();
  Json figures = Json::object();
  for (std::int64_t phase = 0; phase < kNumPhases; ++phase) {
    std::vector<double> seconds;
    for (std::int64_t rank = 0; rank < group.num_ranks(); ++rank)
      seconds.push_back(all.data_ptr<double>()[rank * kNumPhases + phase]);
    const auto slowest = std::max_element(seconds.begin(), seconds.end());
    figures[kPhases[static_cast<std::size_t>(phase)]] = Json{{"median", median_of(seconds)},
                                                             {"max", *slowest},
                                                             {"rank", slowest - seconds.begin()}};
  }
  return figures;
}

}  // namespace triphase::trainer
