// SPDX-License-Identifier: Apache-2.0
#include "data/embeddings.hpp"

#include "base/error.hpp"
#include "base/file.hpp"
#include "data/h5.hpp"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <system_error>

namespace triphase::data {
namespace {

void write_rows(const h5::Id& file, const std::string& name, const at::Tensor& rows) {
  const std::array<hsize_t, 2> shape{static_cast<hsize_t>(rows.size(0)),
                                     static_cast<hsize_t>(rows.size(1))};
  const h5::Id space(H5_TRY(H5Screate_simple(2, shape.data(), nullptr)), H5Sclose);
  const h5::Id dataset(H5_TRY(H5Dcreate2(file.get(), name.c_str(), H5T_IEEE_F32LE, space.get(),
                                         H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)),
                       H5Dclose);
  if (rows.numel() == 0) return;
  H5_TRY(H5Dwrite(dataset.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                  rows.const_data_ptr<float>()));
}

void write_file(const std::filesystem::path& path, const EmbeddingFile& embeddings) {
  const auto lock = h5::lock();
  h5::Id file = h5::create_file(path);
  h5::write_strings(file, "id", embeddings.ids);
  write_rows(file, "image", embeddings.image);
  write_rows(file, "text", embeddings.text);
  write_rows(file, "image_features", embeddings.image_features);
  for (const auto& [name, value] : embeddings.attributes) h5::write_attribute(file, name, value);
  file.close();
}

}  // namespace

void write_embeddings(const std::filesystem::path& path, const EmbeddingFile& embeddings) {
  for (const at::Tensor& rows : {embeddings.image, embeddings.text, embeddings.image_features})
    TRIPHASE_CHECK(InternalError,
                   rows.dim() == 2 && rows.scalar_type() == at::kFloat && rows.is_contiguous() &&
                       rows.size(0) == static_cast<std::int64_t>(embeddings.ids.size()),
                   "embeddings of ", embeddings.ids.size(),
                   " samples must be contiguous float32 rows, one for each");
  if (path.has_parent_path()) make_output_directory(path.parent_path());
  std::filesystem::path part = path;
  part += str(".part", getpid());
  try {
    write_file(part, embeddings);
    fsync_path(part);
    if (::rename(part.c_str(), path.c_str()) != 0)
      throw io_error(str("cannot write '", path.string(), "'"), errno, /*creating=*/true);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw;
  }
  fsync_path(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

}  // namespace triphase::data
