// SPDX-License-Identifier: Apache-2.0
#include "base/new_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace lamina {

NewFile::NewFile(std::string path)
    : path_(std::move(path)), part_(path_ + ".part"), file_(std::fopen(part_.c_str(), "wb")) {
  check(file_ != nullptr);
}

NewFile::~NewFile() {
  if (file_) ::unlink(part_.c_str());
}

void NewFile::write(std::span<const std::byte> bytes) {
  check(std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) == bytes.size());
}

void NewFile::finish() {
  check(std::fflush(file_.get()) == 0 && ::fsync(::fileno(file_.get())) == 0);
  check(std::rename(part_.c_str(), path_.c_str()) == 0);
  file_.reset();
}

void NewFile::check(bool ok) const { require(ok, "{}: cannot be written: {}", path_, std::strerror(errno)); }

}  // namespace lamina
