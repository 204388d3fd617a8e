// SPDX-License-Identifier: Apache-2.0
#include "base/huge_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

namespace lamina {
namespace {

TEST(HugePages, ArraysLieBesideEachOtherAndOutliveIt) {
  std::shared_ptr<std::byte> first, second;
  {
    HugePages memory(HugePages::rounded(100) + HugePages::rounded(64));
    first = memory.allot(100);
    second = memory.allot(64);
  }
  EXPECT_EQ(second.get() - first.get(), 128);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.get()) % 64, 0U);
  std::memset(first.get(), 1, 100);
  std::memset(second.get(), 2, 64);
  first.reset();
  EXPECT_EQ(second.get()[63], std::byte{2});
}

TEST(HugePages, WhatDoesNotFitGetsItsOwn) {
  HugePages memory(64);
  const auto large = memory.allot(65), fits = memory.allot(64), late = memory.allot(1);
  std::memset(large.get(), 1, 65);
  std::memset(fits.get(), 2, 64);
  *late = std::byte{3};
  EXPECT_EQ(large.get()[64], std::byte{1});
  EXPECT_EQ(fits.get()[63], std::byte{2});
}

}  // namespace
}  // namespace lamina
