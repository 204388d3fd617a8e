// SPDX-License-Identifier: Apache-2.0
// Random append, commit, fork and truncate against a naive model (tests/kv/kv_ops.h).
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "kv/kv_ops.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* kSpecs[] = {"full",
                                           "bf16",
                                           "k8v4",
                                           "map(0_0_2) + k4v4",
                                           "window(sinks=4,window=24) + k8v8",
                                           "streaming(sinks=4,window=20)",
                                           "streaming(sinks=3,window=40) + k4v4 + grid(16)",
                                           "window(sinks=2,keep=30%) + f32",
                                           "minicache(start=1,keep=0.3)",
                                           "minicache(start=0,keep=0.4,kinds=any) + k4v4",
                                           "minicache(start=1,rule=top,keep=0.2,vector=head,kinds=any) + k8v4",
                                           "minicache(start=0,of=v,merge=mean) + k8v8 + grid(7)",
                                           "minicache(start=1,kinds=any) + streaming(sinks=3,window=40) + k4v4",
                                           "minicache(start=0,index=union,keep=0.3) + window(sinks=2,window=24)",
                                           "minicache(start=0,index=k,rule=cosine,keep=0.4,t=0) + f32 + grid(16)",
                                           "minicache(start=0,of=k,rule=literal,merge=maxnorm) + window(keep=30%)",
                                           "h2o(heavy=5,recent=4)",
                                           "h2o(heavy=40,recent=10) + k8v4",
                                           "h2o(heavy=30%,recent=3,oneshot) + f32 + grid(16)",
                                           "map(0_0_2) + h2o(heavy=20,recent=5,readers=sum) + k4v4",
                                           "map(0_0_0) + h2o(heavy=50,recent=5,readers=max,average) + grid(7)",
                                           "minicache(start=0,keep=0.3) + h2o(heavy=20,recent=5) + k8v8",
                                           "kivi4(residual=32)",
                                           "h2o(heavy=40,recent=5,oneshot) + kivi2(residual=32,bookkeeping=window)",
                                           "minicache(start=0,keep=0.3) + streaming(window=40) + kivi4(residual=32)",
                                           "snapkv(keep=20,window=5,every=9) + k8v4",
                                           "adakv(keep=20,window=5,every=16) + k8v8 + grid(16)",
                                           "random(keep=12,every=7) + k4v4",
                                           "keyl2(keep=12,every=7) + k8v8",
                                           "keydiff(keep=30%) + k4v4 + grid(16)",
                                           "keydiff(keep=20) + kivi4(residual=32)",
                                           "expected(keep=12) + k8v4",
                                           "map(0_0_2) + expected(keep=30%,sinks=2) + f32",
                                           "tokens(0-1=kvzip(keep=12,piece=16))",
                                           "fastgen(recovery=0.6) + k8v8",
                                           "pyramidinfer(keep=0.5,min=4) + k8v4",
                                           "map(0_0_2) + pyramidinfer(keep=0.3,recent=0.1,min=4,sinks=2)"};
  if (size < 2) return 0;
  lamina::KvShape shape;
  shape.layers = 3;
  shape.kv_heads = 2;
  shape.head_dim = 6;
  shape.windows = {0, 0, data[1] % 2 ? 10 : 0};
  lamina::testing::KvOps ops(kSpecs[data[0] % std::size(kSpecs)], shape);
  ops.run({data + 2, size - 2 > 300 ? 300 : size - 2});
  return 0;
}
