// SPDX-License-Identifier: Apache-2.0
// Times MPI_Allreduce of float32 sums alone, as `triphase bench collectives` times ours: after a barrier, of the slowest
// rank, median. compare.py compiles and runs it: raw_mpi ITERATIONS BYTES...
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const int iterations = argc > 1 ? std::atoi(argv[1]) : 1;
  for (int i = 2; i < argc; ++i) {
    std::vector<float> values(static_cast<std::size_t>(std::atoll(argv[i])) / sizeof(float));
    std::vector<double> times;
    for (int k = 0; k <= iterations; ++k) {
      MPI_Barrier(MPI_COMM_WORLD);
      const double start = MPI_Wtime();
      MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      double seconds = MPI_Wtime() - start;
      MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
      if (k > 0) times.push_back(seconds);  // the first warms up
    }
    std::sort(times.begin(), times.end());
    if (rank == 0) std::printf("%s %.9g\n", argv[i], times[times.size() / 2]);
  }
  MPI_Finalize();
}
