// SPDX-License-Identifier: Apache-2.0
#include "engine/retrieval_text.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"

namespace lamina {
namespace {

// Words that a model knows well: what is measured is its cache, not its vocabulary. No word of the filler is a word
// that is asked for.
constexpr std::array<std::string_view, 40> kCities = {
    "Paris",  "London",  "Madrid", "Berlin",  "Vienna", "Dublin",  "Athens", "Oslo",    "Moscow", "Tokyo",
    "Cairo",  "Delhi",   "Sydney", "Toronto", "Boston", "Chicago", "Denver", "Dallas",  "Miami",  "Seattle",
    "Prague", "Warsaw",  "Lisbon", "Naples",  "Geneva", "Munich",  "Zurich", "Glasgow", "Oxford", "Havana",
    "Lima",   "Bangkok", "Seoul",  "Beijing", "Milan",  "Austin",  "Rome",   "Houston", "Quebec", "Phoenix"};
constexpr std::array<std::string_view, 40> kNames = {
    "Anna",  "Peter",  "Maria", "David", "Laura", "Simon", "Helen",  "Oscar",   "Julia",  "Henry",
    "Clara", "Martin", "Emma",  "Lucas", "Sarah", "Jack",  "Alice",  "Robert",  "Nina",   "Thomas",
    "Rosa",  "George", "Mary",  "Frank", "Lucy",  "Paul",  "Sophie", "Michael", "Daniel", "Victor",
    "Eva",   "Adam",   "Linda", "James", "Carol", "Eric",  "Diana",  "Walter",  "Irene",  "Louis"};
constexpr std::array<std::string_view, 24> kJobs = {
    "teacher",   "doctor",  "lawyer",    "nurse",  "farmer",    "pilot",   "singer",  "writer",
    "painter",   "dentist", "carpenter", "driver", "scientist", "soldier", "manager", "engineer",
    "librarian", "butcher", "dancer",    "chef",   "plumber",   "banker",  "actor",   "sailor"};
constexpr std::array<std::string_view, 12> kInstruments = {"piano",   "guitar", "violin",   "flute",
                                                           "trumpet", "drums",  "cello",    "harp",
                                                           "organ",   "banjo",  "clarinet", "saxophone"};
constexpr std::array<std::string_view, 80> kPlain = {
    "apple",  "bread",  "chair",  "dog",    "engine", "flower", "guitar", "hammer", "island",  "jacket",
    "kettle", "lamp",   "mirror", "needle", "orange", "pencil", "queen",  "rabbit", "shoe",    "table",
    "uncle",  "violin", "wagon",  "yard",   "zebra",  "bottle", "camera", "desk",   "eagle",   "feather",
    "glass",  "horse",  "ink",    "jewel",  "king",   "lemon",  "monkey", "nest",   "onion",   "potato",
    "ring",   "spoon",  "tiger",  "vase",   "wheel",  "basket", "candle", "drum",   "egg",     "fork",
    "goat",   "hat",    "iron",   "juice",  "knife",  "ladder", "mouse",  "nail",   "oven",    "plate",
    "rope",   "saddle", "towel",  "wallet", "button", "carpet", "donkey", "fence",  "garlic",  "helmet",
    "kitten", "magnet", "napkin", "paddle", "pillow", "radio",  "sofa",   "tomato", "trumpet", "zipper"};

constexpr std::array<std::string_view, 24> kWho = {
    "The old man",   "A young woman", "The children",   "Two travellers",     "The neighbours", "A tall stranger",
    "The villagers", "My aunt",       "The shopkeeper", "A group of friends", "The gardener",   "An old friend",
    "The students",  "A small boy",   "The visitors",   "The family",         "A quiet girl",   "The workers",
    "Our guests",    "The miller",    "Some people",    "The shepherd",       "A fisherman",    "The twins"};
constexpr std::array<std::string_view, 24> kDid = {"walked slowly",
                                                   "sat and talked",
                                                   "waited",
                                                   "looked at the clouds",
                                                   "rested a little",
                                                   "listened to the wind",
                                                   "watched the birds",
                                                   "told stories",
                                                   "sang an old song",
                                                   "laughed together",
                                                   "stood still",
                                                   "drank some tea",
                                                   "ate a warm meal",
                                                   "shared a blanket",
                                                   "picked a few berries",
                                                   "carried some wood",
                                                   "lit a small fire",
                                                   "played",
                                                   "said nothing",
                                                   "read a letter",
                                                   "looked around",
                                                   "talked about the weather",
                                                   "fell asleep",
                                                   "went on"};
constexpr std::array<std::string_view, 24> kWhere = {"by the river",
                                                     "near the old bridge",
                                                     "in the garden",
                                                     "under a tree",
                                                     "on the hill",
                                                     "behind the house",
                                                     "at the market",
                                                     "in the forest",
                                                     "along the road",
                                                     "beside the lake",
                                                     "in front of the church",
                                                     "at the station",
                                                     "in the kitchen",
                                                     "on the beach",
                                                     "near the mill",
                                                     "in the meadow",
                                                     "outside the village",
                                                     "on the square",
                                                     "at the edge of the field",
                                                     "by the window",
                                                     "in the shade",
                                                     "on a wooden bench",
                                                     "next to the well",
                                                     "at the end of the street"};
constexpr std::array<std::string_view, 20> kWhen = {
    "in the morning",      "after lunch",       "all afternoon",      "until it grew dark",     "before the rain came",
    "when the sun rose",   "for a long time",   "as on every day",    "while it snowed",        "that evening",
    "on a warm day",       "late at night",     "early in spring",    "at the end of the week", "during the summer",
    "until the bell rang", "for an hour or so", "when work was done", "as the leaves fell",     "once again"};

// Where the first answer that stands in the context does.
double depth_of(const std::string& context, const std::vector<std::string>& answers) {
  std::size_t first = context.size();
  for (const std::string& answer : answers) first = std::min(first, context.find(answer));
  return static_cast<double>(first) / static_cast<double>(context.size());
}

std::size_t length(const ContextQuestions& item, const CountTokens& count) {
  std::size_t most = 0;
  for (const Question& q : item.questions) most = std::max(most, count(item.context + q.text));
  return most;
}

}  // namespace

Words city_names() { return kCities; }
Words first_names() { return kNames; }
Words jobs() { return kJobs; }
Words instruments() { return kInstruments; }
Words plain_words() { return kPlain; }

std::vector<std::string> RandomText::several(Words words, std::size_t n) {
  assert(n <= words.size());
  std::vector<std::string> all(words.begin(), words.end());
  shuffle(all);
  all.resize(n);
  return all;
}

std::vector<std::string> RandomText::numbers(std::size_t n) {
  std::vector<std::string> all;
  while (all.size() < n) {
    std::string number = fmt::format("{}", 10'000 + below(90'000));
    if (std::ranges::find(all, number) == all.end()) all.push_back(std::move(number));
  }
  return all;
}

std::string RandomText::sentence() {
  const std::string_view who = one(kWho), did = one(kDid), where = one(kWhere), when = one(kWhen);
  return fmt::format("{} {} {} {}.", who, did, where, when);
}

std::string hide(RandomText& random, std::vector<std::string> sentences, int filler, bool ordered) {
  if (!ordered) random.shuffle(sentences);
  std::vector<std::size_t> places;  // before which sentence of the filler
  for (std::size_t i = 0; i < sentences.size(); ++i)
    places.push_back(random.below(static_cast<std::uint64_t>(filler) + 1));
  std::ranges::sort(places);
  std::string text;
  std::size_t hidden = 0;
  for (std::size_t i = 0; i <= static_cast<std::size_t>(filler); ++i) {
    for (; hidden < places.size() && places[hidden] == i; ++hidden) text += sentences[hidden] + '\n';
    if (i < static_cast<std::size_t>(filler)) text += random.sentence() + '\n';
  }
  return text;
}

ContextQuestions fit_length(std::string_view task, std::size_t tokens, const CountTokens& count, const MakeItem& make) {
  ContextQuestions best = make(0);
  const std::size_t least = length(best, count);
  require(tokens >= least, "a {} item needs at least {} tokens, found a length of {}", task, least, tokens);
  const auto fits = [&](int filler) {
    ContextQuestions item = make(filler);
    if (length(item, count) > tokens) return false;
    best = std::move(item);
    return true;
  };
  int most = 1, few = 0;
  while (fits(most)) few = most, most *= 2;
  while (most - few > 1) {
    const int half = few + (most - few) / 2;
    (fits(half) ? few : most) = half;
  }
  for (Question& q : best.questions) q.depth = depth_of(best.context, q.answers);
  return best;
}

}  // namespace lamina
