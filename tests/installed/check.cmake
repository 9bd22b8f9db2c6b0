# Installs the build to a clean prefix, builds the project beside this file against it, and runs that.
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${FOLDER}/prefix ${FOLDER}/project)
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${FOLDER}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${FOLDER}/project -G ${GENERATOR} -D CMAKE_PREFIX_PATH=${FOLDER}/prefix
    -D CMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${FOLDER}/project)
run(${FOLDER}/project/greetings)
run(${FOLDER}/prefix/bin/posthorn --help)
