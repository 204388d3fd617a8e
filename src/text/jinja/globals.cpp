// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/globals.h"

#include <array>
#include <ctime>
#include <memory>

#include "base/error.h"
#include "text/jinja/args.h"
#include "text/jinja/objects.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace lamina::jinja {

namespace {

constexpr std::size_t kMaxRange = 100'000;  // the limit of Jinja's sandbox

Value range(Env& env, const Args& args) {
  const Parameters p("range", args, {"start", "stop", "step"});
  const std::int64_t start = p.has(1) ? p.int_or(0, 0) : 0;
  const std::int64_t stop = p.has(1) ? p.int_or(1, 0) : p.int_or(0, 0);
  const std::int64_t step = p.int_or(2, 1);
  require(p.has(0), "range expected at least 1 argument, got 0");
  require(step != 0, "range() arg 3 must not be zero");
  std::vector<Value> items;
  for (std::int64_t at = start; step > 0 ? at < stop : at > stop;) {
    require(items.size() < kMaxRange, "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({}).",
            kMaxRange);
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  env.spend(items.size());
  return std::make_shared<const Sequence>(Sequence::Kind::Range, std::move(items), range_label(start, stop, step));
}

// dict(mapping or pairs, key=value, ...)
Dict make_dict(const Args& args) {
  require(args.positional.size() <= 1, "dict expected at most 1 argument, got {}", args.positional.size());
  Dict out;
  if (!args.positional.empty() && args.positional[0].dict()) {
    out = *args.positional[0].dict();
  } else if (!args.positional.empty()) {
    for (const Value& pair : iterate(args.positional[0])) {
      const std::vector<Value> parts = iterate(pair);
      require(parts.size() == 2, "dictionary update sequence element has length {}; 2 is required", parts.size());
      out.insert(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) out.insert(Value(name), value);
  return out;
}

Value dict(Env&, const Args& args) { return std::make_shared<const Dict>(make_dict(args)); }

Value make_namespace(Env& env, const Args& args) {
  const Dict values = make_dict(args);
  auto out = std::make_shared<Namespace>();
  for (const auto& [key, value] : values.entries()) out->set(str(key), value);
  env.spend(16);
  env.keep(out);
  return Value(std::static_pointer_cast<Object>(out));
}

Value cycler(Env& env, const Args& args) {
  require(!args.positional.empty(), "at least one item has to be provided");
  auto out = std::make_shared<Cycler>(args.positional);
  env.spend(16);
  env.keep(out);
  return Value(std::static_pointer_cast<Object>(out));
}

Value joiner(Env&, const Args& args) {
  const Parameters p("joiner", args, {"sep"});
  const std::string separator = p.has(0) ? p.string_at(0) : ", ";
  return Function::make([separator, used = std::make_shared<bool>(false)](Env&, const Args&) -> Value {
    return Value(std::exchange(*used, true) ? separator : std::string());
  });
}

Value raise_exception(Env&, const Args& args) {
  const Parameters p("raise_exception", args, {"message"});
  fail("{}", str(p.at(0)));
}

Value strftime_now(Env& env, const Args& args) {
  const Parameters p("strftime_now", args, {"format"});
  const std::string& format = p.string_at(0);
  const std::time_t seconds = std::chrono::system_clock::to_time_t(env.now);
  std::tm local{};
  localtime_r(&seconds, &local);
  std::array<char, 4096> buffer{};
  const std::size_t bytes = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  return Value(std::string(buffer.data(), bytes));
}

}  // namespace

std::vector<std::pair<std::string, Value>> globals() {
  return {{"range", Function::make(range)},
          {"dict", Function::make(dict)},
          {"namespace", Function::make(make_namespace)},
          {"cycler", Function::make(cycler)},
          {"joiner", Function::make(joiner)},
          {"raise_exception", Function::make(raise_exception)},
          {"strftime_now", Function::make(strftime_now)}};
}

}  // namespace lamina::jinja
