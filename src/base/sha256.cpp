// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <array>

#include "base/error.h"

namespace lamina {

std::string sha256_hex(std::string_view content) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  require(EVP_Digest(content.data(), content.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1,
          "OpenSSL offers no SHA-256");
  return fmt::format("{:02x}", fmt::join(digest.begin(), digest.begin() + size, ""));
}

}  // namespace lamina
