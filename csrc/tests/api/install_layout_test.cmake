# Installs the build to a fresh prefix and compares the names of the shared library: one file in a wheel, which holds no symbolic links, and
# elsewhere the links of a versioned library.
# -DBUILD_DIR= -DWORK_DIR= -DWHEEL= -DLIBDIR= -DVERSION=

file(REMOVE_RECURSE ${WORK_DIR})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(GLOB found RELATIVE ${WORK_DIR}/${LIBDIR} ${WORK_DIR}/${LIBDIR}/libpyqinfer.so*)
list(SORT found)
if(WHEEL)
  set(expected libpyqinfer.so)
else()
  set(expected libpyqinfer.so libpyqinfer.so.0 libpyqinfer.so.${VERSION})
endif()
if(NOT found STREQUAL expected)
  message(FATAL_ERROR "the shared library is installed as ${found} instead of ${expected}")
endif()
