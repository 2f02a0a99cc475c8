# Installs the build to a fresh prefix, builds the examples against it with find_package, and runs them.
# -DBUILD_DIR= -DSOURCE_DIR= -DWORK_DIR= -DCXX= -DWRITE_MODEL= -DLIBDIR= -DNM=

function(step)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${out}${err}")
  endif()
  set(output "${out}" PARENT_SCOPE)
endfunction()

# example(<folder> <arguments of configure>)
function(example folder)
  set(build ${WORK_DIR}/${folder}${ARGC})
  step(${CMAKE_COMMAND} -S ${SOURCE_DIR}/examples/${folder} -B ${build} -Dpyqinfer_ROOT=${WORK_DIR}/prefix ${ARGN})
  step(${CMAKE_COMMAND} --build ${build})
  step(${build}/run ${WORK_DIR}/model.pqi)
  if(NOT output STREQUAL "0\n0\n0\n")
    message(FATAL_ERROR "examples/${folder} ${ARGN} printed ${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
file(MAKE_DIRECTORY ${WORK_DIR})
step(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
step(${WRITE_MODEL} ${WORK_DIR}/model.pqi)
example(cpp -DCMAKE_CXX_COMPILER=${CXX})
example(cpp -DCMAKE_CXX_COMPILER=${CXX} -DBUILD_SHARED_LIBS=ON)
example(c)

# A program that embeds the library sees pqi_* and nothing else.
step(${NM} -D --defined-only ${WORK_DIR}/prefix/${LIBDIR}/libpyqinfer.so)
string(REGEX REPLACE "[^\n]* (pqi_[a-z_]+|PYQINFER_0)(@@?PYQINFER_0)?\n" "" others "${output}")
if(NOT others STREQUAL "")
  message(FATAL_ERROR "libpyqinfer.so exports more than pqi_*:\n${others}")
endif()
