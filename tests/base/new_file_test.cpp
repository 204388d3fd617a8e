// SPDX-License-Identifier: Apache-2.0
#include "base/new_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace lamina {
namespace {

namespace fs = std::filesystem;

class NewFileTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    std::ofstream(path_) << "old";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / "lamina_new_file";
  const std::string path_ = (folder_ / "file").string(), part_ = path_ + ".part";
};

TEST_F(NewFileTest, TakesThePlaceWhenItIsWhole) {
  NewFile file(path_);
  file.write("new ");
  file.write("text");
  EXPECT_EQ(content(), "old");
  file.finish();
  EXPECT_EQ(content(), "new text");
  EXPECT_FALSE(fs::exists(part_));
}

TEST_F(NewFileTest, WhatIsNotFinishedLeavesNothing) {
  {
    NewFile file(path_);
    file.write("new");
  }
  EXPECT_EQ(content(), "old");
  EXPECT_FALSE(fs::exists(part_));
}

// /dev/full takes nothing: a disk that is.
TEST_F(NewFileTest, AFullDiskLeavesTheOldFile) {
  fs::create_symlink("/dev/full", part_);
  try {
    NewFile file(path_);
    file.write(std::string(1 << 20, 'x'));
    file.finish();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), path_ + ": cannot be written: No space left on device");
  }
  EXPECT_EQ(content(), "old");
  EXPECT_FALSE(fs::exists(fs::symlink_status(part_)));
}

TEST_F(NewFileTest, ALinkStaysOne) {
  const fs::path link = folder_ / "link";
  fs::create_symlink(path_, link);
  NewFile file(link.string());
  file.write("new");
  file.finish();
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(content(), "new");
}

TEST_F(NewFileTest, WhatIsNoFileIsNotReplaced) {
  const std::string folder = (folder_ / "folder").string(), pipe = (folder_ / "pipe").string();
  fs::create_directory(folder);
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string& path : {folder, pipe, std::string("/dev/null")}) {
    try {
      NewFile file(path);
      FAIL() << path;
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(path + ": cannot be written: it is ")) << error.what();
    }
    EXPECT_FALSE(fs::exists(path + ".part"));
  }
}

TEST_F(NewFileTest, AFolderThatIsMissingIsNamed) {
  try {
    NewFile((folder_ / "missing" / "file").string());
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("missing/file: cannot be written: No such file"), std::string::npos);
  }
}

}  // namespace
}  // namespace lamina
