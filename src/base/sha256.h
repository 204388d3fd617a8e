// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace lamina {

std::string sha256_hex(std::string_view content);  // 64 hex digits

}  // namespace lamina
