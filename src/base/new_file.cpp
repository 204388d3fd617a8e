// SPDX-License-Identifier: Apache-2.0
#include "base/new_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace lamina {

namespace {

// Where a new file at `path` goes. A device would be replaced by a file, a folder stand in the way when all is written.
std::string place_of(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  require(!std::filesystem::exists(status) || std::filesystem::is_regular_file(status),
          "{}: cannot be written: {}, expected a file", path,
          std::filesystem::is_directory(status) ? "it is a folder" : "it is no regular file");
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  return error ? path : target.string();
}

}  // namespace

NewFile::NewFile(std::string path)
    : path_(std::move(path)), place_(place_of(path_)), part_(place_ + ".part"), file_(std::fopen(part_.c_str(), "wb")) {
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
  check(std::rename(part_.c_str(), place_.c_str()) == 0);
  file_.reset();
}

void NewFile::check(bool ok) const { require(ok, "{}: cannot be written: {}", path_, std::strerror(errno)); }

}  // namespace lamina
