// Writes the small model to the path given: the file that the installed examples run.
#include <cstdio>

#include "tests/api/small_model.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const pqi::Status status = pqi::test::SmallModel(false)->Save(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
