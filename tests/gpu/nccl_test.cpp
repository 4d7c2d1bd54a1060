// SPDX-License-Identifier: Apache-2.0
// Collectives, loss, reducer and whole runs over NCCL, beside the same over MPI. Ranks share the GPU.
#include "dist/global_contrastive_loss.hpp"
#include "dist/gradient_reducer.hpp"
#include "dist/runtime.hpp"
#include "tests/dist/contrastive_case.hpp"
#include "tests/dist/rank_values.hpp"
#include "tests/gpu/gpu_test_support.hpp"
#include "tests/trainer/run_fixture.hpp"

#include <cstdlib>
#include <limits>

namespace triphase::test {
namespace {

using dist::ProcessGroup;
using dist::ReduceOp;

/// Calls body(host group, nccl group). NCCL takes ranks of one host id for ranks of one host, which
/// may not share a GPU.
void over_nccl(const std::function<void(ProcessGroup& host, ProcessGroup& nccl)>& body) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  setenv("NCCL_HOSTID", str("rank-", rank != nullptr ? rank : "0").c_str(), 1);
  dist::Runtime host({.backend = "mpi", .timeout_seconds = 60});
  dist::Runtime runtime({.backend = "mpi", .timeout_seconds = 60});
  runtime.use_nccl();
  ASSERT_EQ(runtime.world().backend(), runtime.num_ranks() > 1 ? "nccl" : "mpi");
  body(host.world(), runtime.world());
}

/// Whole numbers whose sums have one value in every order, some of them beyond 2^24 in float64.
at::Tensor whole_numbers(int rank, at::IntArrayRef sizes, at::ScalarType dtype, std::uint64_t seed) {
  const at::Tensor values = rank_values(rank, sizes, at::kLong, seed).remainder(100);
  return values.to(dtype);
}

/// The bytes, so that -0 and not-a-number count.
void expect_bits(const at::Tensor& gpu, const at::Tensor& host, const std::string& what) {
  EXPECT_TRUE(same_bits(gpu.cpu(), host)) << what;
}

TEST(Nccl, EveryCollectiveGivesWhatTheHostGives) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup& host, ProcessGroup& nccl) {
    const int n = nccl.num_ranks();
    const int rank = nccl.rank();
    for (const at::ScalarType dtype : kDtypes)
      for (const std::int64_t rows : {0, 1, 2, 17, 70001}) {
        const std::vector<std::int64_t> sizes{rows * n, 3};
        const std::string what = str(at::toString(dtype), " ", rows);
        const auto given = [&] { return whole_numbers(rank, sizes, dtype, 5); };
        const auto on_gpu = [&] { return given().to(kGpu); };
        expect_bits(nccl.all_reduce(on_gpu(), ReduceOp::kSum)->wait(),
                    host.all_reduce(given(), ReduceOp::kSum)->wait(), what + " sum");
        for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin}) {
          const auto spread = [&] { return rank_values(rank, sizes, dtype, 6); };
          expect_bits(nccl.all_reduce(spread().to(kGpu), op)->wait(), host.all_reduce(spread(), op)->wait(),
                      what + " extremum");
        }
        expect_bits(nccl.all_gather(on_gpu())->wait(), host.all_gather(given())->wait(), what + " gather");
        expect_bits(nccl.reduce_scatter(on_gpu())->wait(), host.reduce_scatter(given())->wait(),
                    what + " scatter");
        for (int root = 0; root < n; ++root)
          expect_bits(nccl.broadcast(on_gpu(), root)->wait(), host.broadcast(given(), root)->wait(),
                      what + " broadcast");
        expect_bits(nccl.send_receive(on_gpu(), (rank + 1) % n, (rank + n - 1) % n)->wait(),
                    host.send_receive(given(), (rank + 1) % n, (rank + n - 1) % n)->wait(),
                    what + " exchange");
      }
  });
}

TEST(Nccl, FloatSumsAgreeToRoundingAndHaveTheSameBitsOnEveryRank) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup& host, ProcessGroup& nccl) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const at::Tensor sum = nccl.all_reduce(rank_values(nccl.rank(), {100003}, dtype).to(kGpu), ReduceOp::kSum)
                                 ->wait()
                                 .cpu();
      const at::Tensor expected = serial_sum(nccl.num_ranks(), {100003}, dtype);
      const double epsilon = dtype == at::kDouble ? 1e-15 : dtype == at::kFloat ? 1e-6 : 8e-3;
      const double scale = expected.to(at::kDouble).abs().max().item<double>();
      EXPECT_LT((sum.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>(), epsilon * scale);
      const at::Tensor all = host.all_gather(sum.view({1, -1}))->wait();
      for (int r = 1; r < host.num_ranks(); ++r) EXPECT_TRUE(same_bits(all[r], all[0])) << r;
    }
  });
}

TEST(Nccl, PassesNotANumberOn) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup&, ProcessGroup& nccl) {
    const bool is_last = nccl.rank() == nccl.num_ranks() - 1;
    const double value = is_last ? std::numeric_limits<double>::quiet_NaN() : 1.0;
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16})
      for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kSum}) {
        const at::Tensor given = at::full({3}, value, at::TensorOptions(dtype).device(kGpu));
        EXPECT_TRUE(nccl.all_reduce(given, op)->wait().isnan().all().item<bool>());
      }
  });
}

TEST(Nccl, WaitsForWhatTheTensorsWaitForAndKeepsTheirMemory) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup&, ProcessGroup& nccl) {
    const auto options = at::TensorOptions(at::kFloat).device(kGpu);
    const at::Tensor matrix = at::full({4096, 4096}, 1.0 / 4096, options);
    std::vector<dist::WorkPtr> works;
    for (int i = 0; i < 8; ++i) {
      at::Tensor busy = matrix;
      for (int k = 0; k < 4; ++k) busy = at::matmul(busy, matrix);  // still being computed at the call
      works.push_back(nccl.all_reduce(busy, ReduceOp::kSum));
    }
    // What the allocator hands out next must not be theirs.
    for (int i = 0; i < 8; ++i) at::full({4096, 4096}, -7.0, options);
    for (const dist::WorkPtr& work : works) {
      const at::Tensor sum = work->wait();
      EXPECT_NEAR(sum.min().item<double>(), nccl.num_ranks() / 4096.0, 1e-6);
      EXPECT_NEAR(sum.max().item<double>(), nccl.num_ranks() / 4096.0, 1e-6);
    }
  });
}

TEST(Nccl, TheLossAndItsGradientsAreThoseOverMpi) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup& host, ProcessGroup& nccl) {
    for (const auto kind : {dist::ContrastiveLossKind::kInfonce, dist::ContrastiveLossKind::kSiglip})
      for (const auto transport : {dist::TextTransport::kGather, dist::TextTransport::kRing})
        for (const std::int64_t pairs : {5, 40}) {
          const std::int64_t mine = pairs + nccl.rank();  // uneven
          const ContrastiveCase rows =
              make_case(mine, 24, 20, static_cast<std::uint64_t>(7 + nccl.rank()), 0.4);
          const auto gradients = [&](const at::Device& device, ProcessGroup& group) {
            const auto at_device = [&](const at::Tensor& t) { return t.detach().to(device).clone().requires_grad_(); };
            const bool has_bias = kind == dist::ContrastiveLossKind::kSiglip;
            dist::ContrastivePairs given{.image = at_device(rows.image),
                                         .text = at_device(rows.text),
                                         .log_scale = at_device(at::full({}, 2.5, at::kDouble)),
                                         .bias = has_bias ? at_device(at::full({}, -3.0, at::kDouble)) : at::Tensor(),
                                         .positive_ids = {},
                                         .negative_ids = {}};
            const at::Tensor loss =
                dist::global_contrastive_loss(given, group, {.tile = 16, .kind = kind, .transport = transport});
            loss.backward();
            std::vector<at::Tensor> found{loss.detach().cpu(), given.image.grad().cpu(), given.text.grad().cpu(),
                                          given.log_scale.grad().cpu()};
            if (has_bias) found.push_back(given.bias.grad().cpu());
            return found;
          };
          const auto cpu = gradients(at::kCPU, host);
          const auto gpu = gradients(kGpu, nccl);
          for (std::size_t i = 0; i < cpu.size(); ++i)
            EXPECT_LT((cpu[i] - gpu[i]).abs().max().item<double>(), 1e-12) << i << " of " << pairs;
        }
  });
}

TEST(Nccl, TheReducerSumsGradientsOnTheGpu) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup&, ProcessGroup& nccl) {
    for (const bool is_sharded : {false, true}) {
      std::vector<std::pair<std::string, at::Tensor>> parameters;
      for (const std::int64_t size : {3, 1000, 70001})
        parameters.emplace_back(str("p", size), at::zeros({size}, at::TensorOptions(at::kFloat).device(kGpu)).requires_grad_());
      dist::GradientReducer reducer(nccl, parameters, {.bucket_bytes = 4096, .is_sharded = is_sharded});
      reducer.zero_gradients();
      reducer.last_pass([&] {
        for (auto& [name, p] : parameters) (p * static_cast<double>(nccl.rank() + 1)).sum().backward();
      });
      static_cast<void>(reducer.reduce());
      const double n = nccl.num_ranks();
      for (const dist::ParameterSlice& slice : reducer.own_slices()) {
        const at::Tensor& gradient = parameters[static_cast<std::size_t>(slice.parameter)].second.grad();
        const at::Tensor own = gradient.flatten().slice(0, slice.begin, slice.end);
        EXPECT_TRUE(own.eq(n * (n + 1) / 2).all().item<bool>());
      }
    }
  });
}

TEST(Nccl, BucketsLeaveDuringBackward) {
  TRIPHASE_NEEDS_GPU();
  over_nccl([](ProcessGroup&, ProcessGroup& nccl) {
    const auto on_gpu = at::TensorOptions(at::kFloat).device(kGpu);
    for (const dist::Overlap overlap : {dist::Overlap::kAuto, dist::Overlap::kOn, dist::Overlap::kOff}) {
      // The gradient of "first" comes after many products, that of "last" before them.
      const at::Tensor first = at::full({256, 256}, 1.0 / 256, on_gpu).requires_grad_();
      const at::Tensor last = at::full({256, 256}, 2.0, on_gpu).requires_grad_();
      const std::vector<std::pair<std::string, at::Tensor>> parameters{{"first", first}, {"last", last}};
      dist::GradientReducer reducer(nccl, parameters, {.bucket_bytes = 1, .overlap = overlap});
      const bool leaves = overlap == dist::Overlap::kOn || (overlap == dist::Overlap::kAuto && nccl.num_ranks() > 1);
      EXPECT_EQ(reducer.has_overlap(), leaves);
      for (int step = 0; step < 2; ++step) {
        reducer.zero_gradients();
        reducer.last_pass([&] {
          at::Tensor h = first;
          for (int k = 0; k < 32; ++k) h = at::matmul(h, at::full({256, 256}, 1.0 / 256, on_gpu));
          (h * last).sum().backward();
        });
        static_cast<void>(reducer.reduce());
        const std::vector<dist::BucketRecord> log = reducer.log();
        EXPECT_EQ(log[0].sent_seconds < log[1].ready_seconds, leaves);
        EXPECT_NEAR(last.grad().min().item<double>(), nccl.num_ranks() / 256.0, 1e-6);
        EXPECT_NEAR(first.grad().max().item<double>(), 2.0 * nccl.num_ranks(), 1e-4);
      }
    }
  });
}

TEST(Nccl, ARunIsThatOfOneProcessOnTheCpu) {
  TRIPHASE_NEEDS_GPU();
  const Deterministic deterministic;
  over_nccl([](ProcessGroup& host, ProcessGroup& nccl) {
    const int n = nccl.num_ranks();
    std::unique_ptr<TinyCache> own;
    std::unique_ptr<TemporaryFolder> folder;
    if (host.rank() == 0) {
      own = std::make_unique<TinyCache>();
      folder = std::make_unique<TemporaryFolder>();
    }
    const std::string cache_folder = dist::broadcast_text(host, own ? own->path("").string() : "");
    const std::string output = dist::broadcast_text(host, folder ? folder->path().string() : "");
    const TinyCache cache{std::filesystem::path(cache_folder)};
    for (const bool is_sharded : {false, true})
      for (const std::string method : {"full", "peft"}) {
        const Settings settings{{"adapt.method", "\"" + method + "\""},
                                {"adapt.image.rank", "2"},
                                {"adapt.text.rank", "2"},
                                {"batch.global_pairs", "6"},
                                {"model.batch_norm", method == "full" ? "\"sync\"" : "\"frozen\""},
                                {"distributed.shard_optimizer", is_sharded ? "true" : "false"},
                                {"precision.compute", "\"float64\""}};
        const auto named = [&](const std::string& name) {
          Settings all = settings;
          all["run.name"] = "\"" + name + method + (is_sharded ? "_sharded\"" : "\"");
          return tiny_run(output, all, cache);
        };
        const RunRecord gpu = run_once(named("nccl"), nccl, {.device = kGpu});
        const RunRecord cpu = run_once(named("mpi"), host);
        ASSERT_EQ(gpu.losses.size(), cpu.losses.size()) << n;
        for (std::size_t i = 0; i < gpu.losses.size(); ++i) EXPECT_NEAR(gpu.losses[i], cpu.losses[i], 1e-9) << i;
      }
    host.barrier();
  });
}

}  // namespace
}  // namespace triphase::test
