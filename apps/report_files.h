// SPDX-License-Identifier: Apache-2.0
// The files of apps/report/, which are part of the program (tools/embed.cmake).
#pragma once
#include <string_view>

namespace lamina {

std::string_view base_css();
std::string_view compare_css();
std::string_view compare_html();
std::string_view compare_js();
std::string_view page_html();
std::string_view profile_css();

}  // namespace lamina
