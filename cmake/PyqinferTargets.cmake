# One OBJECT library per folder of csrc/, with explicit links: a folder can only use what it names in DEPS.
# `make lint` checks the #include lines against these DEPS.

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Contraction would change result bits (docs/numerics.md), so it is off for every file.
add_library(pqi_flags INTERFACE)
target_compile_options(pqi_flags INTERFACE -ffp-contract=off -fno-math-errno -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
# A parent project without a build type would have kernels without optimization.
target_compile_options(pqi_flags INTERFACE $<$<CONFIG:>:-O3>)
if(PYQINFER_WERROR)
  target_compile_options(pqi_flags INTERFACE -Werror)
endif()
if(PYQINFER_SANITIZE)
  target_compile_options(pqi_flags INTERFACE -fsanitize=${PYQINFER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(pqi_flags INTERFACE -fsanitize=${PYQINFER_SANITIZE})
endif()
target_include_directories(pqi_flags INTERFACE ${PROJECT_SOURCE_DIR}/csrc)

# Indirect calls and jumps land on marked instructions, and return addresses are compared with the shadow stack where the CPU has one.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  target_compile_options(pqi_flags INTERFACE -fcf-protection=full)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  target_compile_options(pqi_flags INTERFACE -mbranch-protection=standard)
endif()
# The rest of the hardening is for all that reads what others wrote. What computes is given checked sizes, and calls small functions so
# often that checks would cost: a grouped convolution of the golden files took 29 us in place of 11.
add_library(pqi_hardened INTERFACE)
target_compile_options(pqi_hardened INTERFACE -fstack-protector-strong)
if(NOT PYQINFER_SANITIZE)  # sanitizers watch the same functions
  target_compile_options(pqi_hardened INTERFACE $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
target_link_options(pqi_hardened INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  # Said outright, because distributions whose start-up objects lack the mark (Debian 12) would take it from the library.
  target_link_options(pqi_hardened INTERFACE -Wl,-z,shstk)
endif()

find_package(Threads REQUIRED)

# pqi_listed_sources(<out> <macro>): the sources that the rows of list.inc in this folder name, each once; a row is <macro>(name, source.cc).
function(pqi_listed_sources out macro)
  file(STRINGS list.inc sources REGEX "^${macro}")
  list(TRANSFORM sources REPLACE "^${macro}\\([A-Za-z0-9]+, ([a-z0-9_]+\\.cc)\\).*$" "\\1")
  list(REMOVE_DUPLICATES sources)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS list.inc)
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

# pqi_object_library(<folder> SOURCES <files> [DEPS <folders>] [LIBS <other targets>])
function(pqi_object_library folder)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(pqi_${folder} OBJECT ${arg_SOURCES})
  target_link_libraries(pqi_${folder} PRIVATE pqi_flags ${arg_LIBS})
  if(SKBUILD AND NOT folder STREQUAL "kernels")
    # A wheel holds the engine once, in the shared library: the extension and the tool use its inner names (csrc/api/wheel.map).
    set_target_properties(pqi_${folder} PROPERTIES CXX_VISIBILITY_PRESET default)
  endif()
  if(NOT folder MATCHES "^(kernels|pack|conv|linear)$")
    target_link_libraries(pqi_${folder} PRIVATE pqi_hardened)
  endif()
  set_property(GLOBAL APPEND PROPERTY PQI_FOLDERS ${folder})
  foreach(dep IN LISTS arg_DEPS)
    if(NOT TARGET pqi_${dep})
      message(FATAL_ERROR "csrc/${folder} depends on csrc/${dep}, which is not below it")
    endif()
  endforeach()
endfunction()

# Every object of the library folders, for the static and shared library and for test executables.
function(pqi_all_objects out)
  get_property(folders GLOBAL PROPERTY PQI_FOLDERS)
  set(objects)
  foreach(folder IN LISTS folders)
    list(APPEND objects $<TARGET_OBJECTS:pqi_${folder}>)
  endforeach()
  set(${out} ${objects} PARENT_SCOPE)
endfunction()

# pqi_link_engine(<target> <library folder as seen from the installed target>): the engine for a program beside the libraries, in a wheel
# through the shared library and elsewhere as objects of its own, so that it runs without being installed.
function(pqi_link_engine target libdir)
  if(SKBUILD)
    target_link_libraries(${target} PRIVATE pyqinfer_shared)
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/${libdir}")
  else()
    pqi_all_objects(objects)
    target_sources(${target} PRIVATE ${objects})
  endif()
endfunction()

# pqi_test(<name> SOURCES <files> [LIBS <targets>]): a GoogleTest executable, linked with the whole core.
function(pqi_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE pqi_flags pqi_core_for_tests GTest::gtest GTest::gtest_main ${arg_LIBS})
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 DISCOVERY_MODE PRE_TEST)
endfunction()
