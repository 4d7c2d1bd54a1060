// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace triphase::models {

/// One tensor as the pickle of a torch.save file describes it; not yet checked against its
/// storage's bytes. Views into the pickle's own memory.
struct PickledTensor {
  std::string_view name;
  at::ScalarType dtype = at::kFloat;
  std::string_view storage;  ///< key of the storage: its bytes are the archive's data/<key>
  std::int64_t storage_elements = 0;  ///< as claimed, at least 0
  std::int64_t offset = 0;  ///< of the first element in the storage, in elements, at least 0
  std::vector<std::int64_t> sizes;    ///< at least 0 each
  std::vector<std::int64_t> strides;  ///< in elements, at least 0 each; as many as sizes
};

/// Reads the data.pkl of a torch.save file that holds a dict of tensors (an OrderedDict, a plain
/// dict, or either as "state_dict" or "model" of an outer dict), in the file's order. Nothing is
/// executed: the opcodes and the six kinds of globals that such a file needs are interpreted, every
/// other is refused by its name. There is no recursion; stack, memo and counts are bounded. Source:
/// Python's pickletools for the opcodes, torch/_utils.py and torch/serialization.py for the
/// globals.
/// @param source names the file in messages
/// @throws CheckpointError
[[nodiscard]] std::vector<PickledTensor> read_torch_pickle(std::span<const std::byte> pickle,
                                                           const std::string& source);

}  // namespace triphase::models
