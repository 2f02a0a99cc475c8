# What is compiled into the wheel, as CycloneDX (PEP 770: <package>.dist-info/sboms). It holds no time and no random number, so that two
# builds of one commit give the same bytes.

# pqi_header_version(<out> <prefix of the macros> <file of the headers>): MAJOR.MINOR.PATCH by the macros that a header defines.
function(pqi_header_version out prefix file)
  set(version "")
  foreach(part MAJOR MINOR PATCH)
    file(STRINGS ${file} line REGEX "define ${prefix}_${part} " LIMIT_COUNT 1)
    string(REGEX REPLACE "^.*_${part} +([0-9]+).*$" "\\1" number "${line}")
    list(APPEND version "${number}")
  endforeach()
  list(JOIN version "." version)
  if(NOT version MATCHES "^[0-9]+\\.[0-9]+\\.[0-9]+$")
    message(FATAL_ERROR "${file}: no version in the macros ${prefix}_...")
  endif()
  set(${out} ${version} PARENT_SCOPE)
endfunction()

# Installs the list; pybind11 must have been found.
function(pqi_install_sbom)
  get_target_property(json pqi_json INTERFACE_SYSTEM_INCLUDE_DIRECTORIES)
  find_file(PYQINFER_JSON_MACROS nlohmann/detail/abi_macros.hpp HINTS ${json} REQUIRED)
  pqi_header_version(PYQINFER_JSON_VERSION NLOHMANN_JSON_VERSION ${PYQINFER_JSON_MACROS})
  set(PYQINFER_SBOM_TOOL "")
  set(PYQINFER_SBOM_TOOL_REF "")
  find_file(PYQINFER_CLI11_MACROS CLI/Version.hpp)
  if(PYQINFER_BUILD_TOOLS AND PYQINFER_CLI11_MACROS)  # without it there is no pqi (csrc/tools)
    pqi_header_version(version CLI11_VERSION ${PYQINFER_CLI11_MACROS})
    set(PYQINFER_SBOM_TOOL [[
    {
      "type": "library",
      "bom-ref": "cli11",
      "name": "CLI11",
      "version": "VERSION",
      "description": "header-only, compiled into pqi",
      "licenses": [{"license": {"id": "BSD-3-Clause"}}],
      "purl": "pkg:github/CLIUtils/CLI11@vVERSION"
    },
]])
    string(REPLACE VERSION ${version} PYQINFER_SBOM_TOOL "${PYQINFER_SBOM_TOOL}")
    set(PYQINFER_SBOM_TOOL_REF "\"cli11\", ")
  endif()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/sbom.cdx.json.in ${PROJECT_BINARY_DIR}/pyqinfer.cdx.json @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/pyqinfer.cdx.json DESTINATION ${SKBUILD_METADATA_DIR}/sboms)
endfunction()
