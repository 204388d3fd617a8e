# SPDX-License-Identifier: Apache-2.0
# Writes OUT, a C++ file with a function for each of the FILES of FOLDER that returns its text: page.html is page_html().
set(code "// Made by tools/embed.cmake\n#include \"report_files.h\"\n\nnamespace lamina {\n\n")
string(REPLACE "," ";" files "${FILES}")
foreach(file IN LISTS files)
  file(READ "${FOLDER}/${file}" text)
  string(REGEX REPLACE "[^a-z]" "_" name "${file}")
  string(APPEND code "std::string_view ${name}() {\n  return R\"report(${text})report\";\n}\n\n")
endforeach()
file(WRITE "${OUT}" "${code}}  // namespace lamina\n")
