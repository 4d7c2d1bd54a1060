// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/readers.hpp"

#include <ATen/ATen.h>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "data/tokenizer.hpp"
#include "models/module_paths.hpp"
#include "models/weights.hpp"
#include "tests/models/models_test_support.hpp"

namespace triphase::fuzz {
namespace {

namespace fs = std::filesystem;

/// One line a tensor: name, dtype, shape and a hash of its elements.
std::string described(const models::NamedTensors& tensors) {
  std::string text;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor values = tensor.contiguous();
    const auto bytes =
        std::string_view(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
    text += triphase::str(name, " ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(), " ",
                          hex64(xxh3(bytes)), "\n");
  }
  return text;
}

/// Factors, scales and saved modules of an adapted model.
std::string use_peft_folder(const fs::path& folder) {
  models::TwoTower model(models::test::golden_tiny_options());
  models::initialise_weights(model, 1);
  models::read_peft_folder(folder, model);
  std::string text = described(models::adapter_state(model)) + described(models::base_state(model));
  for (const models::ModuleEntry& module : models::list_modules(*model))
    if (module.is_adapted())
      text += str(module.path, " scale ", module.low_rank().scale(), " dropout ",
                  module.low_rank().dropout, "\n");
  return text;
}

/// The ids of texts in which every token of the small vocabulary can stand.
std::string use_tokenizer(const fs::path& folder) {
  const data::Tokenizer tokenizer(folder);
  std::string text;
  std::vector<std::string> texts{"no ascites in the liver : 1 . patient 2 / course of care , it is",
                                 "Hepatic lesions - 3 cm ' seen\n", "\xC3\xA9\xE8\x82\x9D"};
  for (unsigned byte = 1; byte < 0x80; ++byte) texts.emplace_back(3, static_cast<char>(byte));
  for (std::int64_t id = 4; id < tokenizer.vocabulary_size(); ++id) {
    const std::string token = tokenizer.decode({id});
    if (token.size() > 1) texts.push_back(token);
  }
  for (const std::string& one : texts) {
    for (const std::int64_t id : tokenizer.encode(one, 1024)) text += str(id, " ");
    text += "\n";
  }
  return text;
}

}  // namespace

std::vector<Reader> all_readers(const fs::path& scratch) {
  const fs::path golden = triphase::test::golden_folder();
  const auto weights_in = [](const std::string& file) {
    return [file](const fs::path& folder) {
      return described(models::read_weights(folder / file).tensors);
    };
  };
  fs::create_directories(scratch / "own");
  models::write_safetensors(scratch / "own" / "own.safetensors",
                            models::read_torch_file(golden / "torch" / "views.pt").tensors,
                            {{"format", "pt"}});
  fs::create_directories(scratch / "others");
  fs::copy_file(golden / "torch" / "expected.safetensors",
                scratch / "others" / "expected.safetensors");
  fs::create_directories(scratch / "torch");
  fs::copy_file(golden / "torch" / "ordered_dict.pt", scratch / "torch" / "ordered_dict.pt");
  return {
      {"safetensors", scratch / "own", "own.safetensors", weights_in("own.safetensors")},
      {"safetensors", scratch / "others", "expected.safetensors",
       weights_in("expected.safetensors")},
      {"torch_file", scratch / "torch", "ordered_dict.pt", weights_in("ordered_dict.pt")},
      {"adapter_config", golden / "peft" / "rslora", "adapter_config.json", use_peft_folder},
      {"tokenizer", golden / "tokenizer" / "small", "vocab.json", use_tokenizer},
      {"tokenizer", golden / "tokenizer" / "small", "merges.txt", use_tokenizer},
  };
}

std::optional<std::string> used_or_refused(const Reader& reader, const fs::path& folder) {
  try {
    return reader.use(folder);
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.exit_code()), 65) << reader.file << ": " << error.what();
    EXPECT_GE(error.message().size(), 20U) << reader.file << ": " << error.what();
    return std::nullopt;
  } catch (const std::exception& error) {
    ADD_FAILURE() << reader.file << ": an error that is none of Triphase's: " << error.what();
    return std::nullopt;
  }
}

}  // namespace triphase::fuzz
