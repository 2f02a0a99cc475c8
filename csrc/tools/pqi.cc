// pqi: run, measure, verify and inspect .pqi files without Python.
#include <cstdio>
#include <new>

#include "tools/common.h"

int main(int argc, char** argv) {
  CLI::App app{"Run, measure, verify and inspect .pqi files"};
  app.set_version_flag("--version", PQI_VERSION);
  app.require_subcommand(1);
  pqi::tools::AddRun(&app);
  pqi::tools::AddBench(&app);
  pqi::tools::AddVerify(&app);
  pqi::tools::AddInspect(&app);
  try {
    app.parse(argc, argv);  // runs the command
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  } catch (const pqi::tools::CommandError& e) {
    std::fprintf(stderr, "pqi: %s\n", e.message.c_str());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "pqi: out of memory\n");
  }
  return 1;
}
