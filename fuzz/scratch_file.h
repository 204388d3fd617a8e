// SPDX-License-Identifier: Apache-2.0
// A file in memory, for what is read by its path.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

class ScratchFile {
 public:
  ScratchFile() : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    if (file_ < 0) std::abort();
  }

  // The path of a file that holds these bytes, until the next call.
  std::string holding(std::span<const std::uint8_t> bytes) {
    if (::ftruncate(file_, 0) != 0 ||
        ::pwrite(file_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      std::abort();
    return "/proc/self/fd/" + std::to_string(file_);
  }

 private:
  int file_;
};
