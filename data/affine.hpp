// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/volume.hpp"

#include <array>
#include <optional>

namespace triphase::data {

using Vector3 = std::array<double, 3>;
using Matrix3 = std::array<Vector3, 3>;

[[nodiscard]] Affine identity_affine();
[[nodiscard]] bool is_finite(const Affine& affine);
/// The upper left 3x3 part: rotation, zoom and shear.
[[nodiscard]] Matrix3 linear_part(const Affine& affine);
[[nodiscard]] Affine affine_from(const Matrix3& linear, const Vector3& translation);

[[nodiscard]] Matrix3 multiply(const Matrix3& a, const Matrix3& b);
[[nodiscard]] Affine multiply(const Affine& a, const Affine& b);
/// The point that the voxel index stands for.
[[nodiscard]] Vector3 apply(const Affine& affine, const Vector3& index);

/// X with a*X = b, by Gaussian elimination with row exchange; nothing when `a` is singular. Divides by
/// multiplying with the pivot's reciprocal, as OpenBLAS does under numpy.linalg.solve: where an output
/// size lies half-way between two integers, the last bit of the quotient decides it.
[[nodiscard]] std::optional<Affine> solve(const Affine& a, const Affine& b);
[[nodiscard]] std::optional<Matrix3> inverse(const Matrix3& a);

/// Euclidean length of each column: millimetres per voxel along each index.
[[nodiscard]] Vector3 column_norms(const Matrix3& linear);
/// Upper triangular U with positive diagonal and transpose(U)*U = transpose(a)*a; nothing when singular.
[[nodiscard]] std::optional<Matrix3> upper_cholesky_of_gram(const Matrix3& a);
/// The orthogonal matrix nearest to `a`; nothing when `a` is singular.
[[nodiscard]] std::optional<Matrix3> polar_rotation(const Matrix3& a);

}  // namespace triphase::data
