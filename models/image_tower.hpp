// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/adapted_layers.hpp"
#include "models/batch_norm.hpp"

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace triphase::models {

/// Which activations are computed again in backward instead of being kept, each once: one forward more.
/// `kBlocks`: each block keeps its input alone. `kStages`: each stage keeps its input alone; less is kept
/// between forward and backward, but a stage's replay holds all of its blocks at a time. A text tower has no
/// stages: both words mean its layers.
enum class Recompute { kNone, kBlocks, kStages };

struct ImageTowerOptions {
  std::array<std::int64_t, 4> blocks{3, 8, 36, 3};  ///< bottlenecks per stage (ResNet-152)
  std::int64_t base_width = 64;                     ///< channels of the stem and of stage 1's inner convolutions
  std::int64_t num_phenotypes = 1692;
};

/// Merlin's inflated 3-D ResNet. Names below `encode_image.`: i3_resnet.conv1.weight, i3_resnet.layer1.0.conv1.weight, ...
/// Input [B,1,X,Y,Z] is permuted to [B,1,Z,X,Y]; the three equal input channels of the original are folded
/// into the stem's weights (summed over the input channel), which is exact in exact arithmetic.
/// Source: Merlin's inflate.py and i3res.py (see docs/numerics.md).
class ImageTowerImpl : public torch::nn::Module {
 public:
  ImageTowerImpl(const ImageTowerOptions& options, std::int64_t embedding_size);
  ~ImageTowerImpl() override;

  struct Output {
    at::Tensor projection;        ///< [B,E], not normalised
    at::Tensor features;          ///< [B, 32*base_width] pooled
    at::Tensor phenotype_logits;  ///< [B,P]; undefined unless asked for
  };
  [[nodiscard]] Output forward(const at::Tensor& volumes, bool with_phenotypes);

  /// @param gather of kSync, else empty; what it refers to must outlive the last training pass
  void set_batch_norm(BatchNormMode mode, const GatherRows& gather = {});
  void set_recompute(Recompute mode);
  [[nodiscard]] std::int64_t num_features() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};
TORCH_MODULE(ImageTower);

}  // namespace triphase::models
