// SPDX-License-Identifier: Apache-2.0
#include "base/error.hpp"
#include "data/h5.hpp"

namespace triphase::data::h5 {
namespace {

/// Values in memory and in the file: the file is little-endian on every machine.
template <class T>
struct Types;
template <>
struct Types<std::int8_t> {
  static hid_t memory() { return H5T_NATIVE_INT8; }
  static hid_t file() { return H5T_STD_I8LE; }
};
template <>
struct Types<std::int32_t> {
  static hid_t memory() { return H5T_NATIVE_INT32; }
  static hid_t file() { return H5T_STD_I32LE; }
};
template <>
struct Types<std::int64_t> {
  static hid_t memory() { return H5T_NATIVE_INT64; }
  static hid_t file() { return H5T_STD_I64LE; }
};
template <>
struct Types<std::uint64_t> {
  static hid_t memory() { return H5T_NATIVE_UINT64; }
  static hid_t file() { return H5T_STD_U64LE; }
};
template <>
struct Types<float> {
  static hid_t memory() { return H5T_NATIVE_FLOAT; }
  static hid_t file() { return H5T_IEEE_F32LE; }
};
template <>
struct Types<double> {
  static hid_t memory() { return H5T_NATIVE_DOUBLE; }
  static hid_t file() { return H5T_IEEE_F64LE; }
};

Id string_type() {
  Id type(H5_TRY(H5Tcopy(H5T_C_S1)), H5Tclose);
  H5_TRY(H5Tset_size(type.get(), H5T_VARIABLE));
  H5_TRY(H5Tset_cset(type.get(), H5T_CSET_UTF8));
  return type;
}

Id simple_space(const std::vector<std::int64_t>& shape) {
  std::vector<hsize_t> lengths;
  for (const std::int64_t length : shape) lengths.push_back(static_cast<hsize_t>(length));
  return {H5_TRY(H5Screate_simple(static_cast<int>(shape.size()), lengths.data(), nullptr)),
          H5Sclose};
}

/// Without the time of writing, so that equal content gives an equal file.
Id create_dataset(const Id& file, const std::string& name, hid_t type,
                  const std::vector<std::int64_t>& shape) {
  const Id space = simple_space(shape);
  const Id creation(H5_TRY(H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  H5_TRY(H5Pset_obj_track_times(creation.get(), false));
  return {H5_TRY(H5Dcreate2(file.get(), name.c_str(), type, space.get(), H5P_DEFAULT,
                            creation.get(), H5P_DEFAULT)),
          H5Dclose};
}

/// Strings that HDF5 allocated; given back at the end.
class HeldStrings {
 public:
  HeldStrings(std::int64_t count, const Id& type)
      : pointers_(static_cast<std::size_t>(count), nullptr),
        type_(type),
        space_(simple_space({count})) {}
  ~HeldStrings() {
    if (!pointers_.empty())
      H5Dvlen_reclaim(type_.get(), space_.get(), H5P_DEFAULT, pointers_.data());
  }
  HeldStrings(const HeldStrings&) = delete;
  HeldStrings& operator=(const HeldStrings&) = delete;
  [[nodiscard]] char** data() { return pointers_.data(); }
  [[nodiscard]] std::vector<std::string> values() const {
    std::vector<std::string> out;
    for (const char* text : pointers_) out.emplace_back(text == nullptr ? "" : text);
    return out;
  }

 private:
  std::vector<char*> pointers_;
  const Id& type_;
  Id space_;
};

void check_is_string(const Id& type, const std::string& name) {
  TRIPHASE_CHECK(DataError, H5_TRY(H5Tis_variable_str(type.get())) > 0, "'", name,
                 "' does not hold strings of variable length");
}

std::vector<const char*> pointers_to(const std::vector<std::string>& values) {
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  return pointers;
}

Id create_attribute(const Id& object, const std::string& name, hid_t type, const Id& space) {
  return {
      H5_TRY(H5Acreate2(object.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT)),
      H5Aclose};
}

Id open_attribute(const Id& object, const std::string& name) {
  return {H5_TRY(H5Aopen(object.get(), name.c_str(), H5P_DEFAULT)), H5Aclose};
}

std::int64_t attribute_count(const Id& attribute) {
  const Id space(H5_TRY(H5Aget_space(attribute.get())), H5Sclose);
  return H5_TRY(H5Sget_simple_extent_npoints(space.get()));
}

template <class T>
void write_number_attribute(const Id& object, const std::string& name, T value) {
  const Id space(H5_TRY(H5Screate(H5S_SCALAR)), H5Sclose);
  const Id attribute = create_attribute(object, name, Types<T>::file(), space);
  H5_TRY(H5Awrite(attribute.get(), Types<T>::memory(), &value));
}

template <class T>
T read_number_attribute(const Id& object, const std::string& name) {
  const Id attribute = open_attribute(object, name);
  TRIPHASE_CHECK(DataError, attribute_count(attribute) == 1, "the attribute '", name,
                 "' is not one number");
  T value{};
  H5_TRY(H5Aread(attribute.get(), Types<T>::memory(), &value));
  return value;
}

std::vector<std::string> read_attribute_strings(const Id& object, const std::string& name) {
  const Id attribute = open_attribute(object, name);
  const Id stored(H5_TRY(H5Aget_type(attribute.get())), H5Tclose);
  check_is_string(stored, name);
  const Id type = string_type();
  const auto count = attribute_count(attribute);
  HeldStrings strings(count, type);
  if (count > 0) H5_TRY(H5Aread(attribute.get(), type.get(), strings.data()));
  return strings.values();
}

}  // namespace

template <class T>
void write_array(const Id& file, const std::string& name, const std::vector<T>& values,
                 const std::vector<std::int64_t>& shape) {
  const Id dataset = create_dataset(file, name, Types<T>::file(), shape);
  if (values.empty()) return;
  H5_TRY(H5Dwrite(dataset.get(), Types<T>::memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
}

template <class T>
std::vector<T> read_array(const Id& file, const std::string& name,
                          const std::vector<std::int64_t>& shape) {
  const Id dataset = open_dataset(file, name);
  TRIPHASE_CHECK(DataError, shape_of(dataset, static_cast<int>(shape.size())) == shape,
                 "the dataset '", name, "' has another shape than the shard's volumes call for");
  const Id type(H5_TRY(H5Dget_type(dataset.get())), H5Tclose);
  TRIPHASE_CHECK(DataError, H5_TRY(H5Tequal(type.get(), Types<T>::file())) > 0, "the dataset '",
                 name, "' has another number type than the cache format");
  std::size_t count = 1;
  for (const std::int64_t length : shape) count *= static_cast<std::size_t>(length);
  std::vector<T> out(count);
  if (count > 0)
    H5_TRY(H5Dread(dataset.get(), Types<T>::memory(), H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data()));
  return out;
}

#define TRIPHASE_INSTANTIATE(T)                                                      \
  template void write_array<T>(const Id&, const std::string&, const std::vector<T>&, \
                               const std::vector<std::int64_t>&);                    \
  template std::vector<T> read_array<T>(const Id&, const std::string&,               \
                                        const std::vector<std::int64_t>&)
TRIPHASE_INSTANTIATE(std::int8_t);
TRIPHASE_INSTANTIATE(std::int32_t);
TRIPHASE_INSTANTIATE(std::int64_t);
TRIPHASE_INSTANTIATE(std::uint64_t);
TRIPHASE_INSTANTIATE(float);
TRIPHASE_INSTANTIATE(double);
#undef TRIPHASE_INSTANTIATE

void write_strings(const Id& file, const std::string& name,
                   const std::vector<std::string>& values) {
  const Id type = string_type();
  const Id dataset =
      create_dataset(file, name, type.get(), {static_cast<std::int64_t>(values.size())});
  if (values.empty()) return;
  H5_TRY(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                  pointers_to(values).data()));
}

std::vector<std::string> read_strings(const Id& file, const std::string& name, std::int64_t count) {
  const Id dataset = open_dataset(file, name);
  TRIPHASE_CHECK(DataError, shape_of(dataset, 1)[0] == count, "the dataset '", name,
                 "' has another length than the shard's volumes call for");
  const Id stored(H5_TRY(H5Dget_type(dataset.get())), H5Tclose);
  check_is_string(stored, name);
  const Id type = string_type();
  HeldStrings strings(count, type);
  if (count > 0)
    H5_TRY(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, strings.data()));
  return strings.values();
}

void write_attribute(const Id& object, const std::string& name, const std::string& value) {
  const Id type = string_type();
  const Id space(H5_TRY(H5Screate(H5S_SCALAR)), H5Sclose);
  const Id attribute = create_attribute(object, name, type.get(), space);
  const char* text = value.c_str();
  H5_TRY(H5Awrite(attribute.get(), type.get(), &text));
}

void write_attribute(const Id& object, const std::string& name, double value) {
  write_number_attribute(object, name, value);
}
void write_attribute(const Id& object, const std::string& name, std::int64_t value) {
  write_number_attribute(object, name, value);
}

void write_attribute(const Id& object, const std::string& name,
                     const std::vector<std::string>& values) {
  const Id type = string_type();
  const Id space = simple_space({static_cast<std::int64_t>(values.size())});
  const Id attribute = create_attribute(object, name, type.get(), space);
  if (!values.empty()) H5_TRY(H5Awrite(attribute.get(), type.get(), pointers_to(values).data()));
}

std::string read_text_attribute(const Id& object, const std::string& name) {
  const std::vector<std::string> values = read_attribute_strings(object, name);
  TRIPHASE_CHECK(DataError, values.size() == 1, "the attribute '", name, "' is not one text");
  return values.front();
}
double read_double_attribute(const Id& object, const std::string& name) {
  return read_number_attribute<double>(object, name);
}
std::int64_t read_int_attribute(const Id& object, const std::string& name) {
  return read_number_attribute<std::int64_t>(object, name);
}
std::vector<std::string> read_strings_attribute(const Id& object, const std::string& name) {
  return read_attribute_strings(object, name);
}

}  // namespace triphase::data::h5
