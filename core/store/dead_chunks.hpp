// Dead letters without a copy of their envelope: they lie in a body that chunks and dead letters of other topics lie in
// as well. Those of one chunk are one row, a *dead chunk*: what lies where, and a record with why each was given up.
// Counts like a chunk among those over the body. The file has every change by the end of flush(); what is held is only
// ever a copy.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/chunk_table.hpp"
#include "store/database.hpp"
#include "store/store.hpp"

namespace posthorn::store {

class DeadChunks {
public:
    static constexpr std::size_t held_chunks = 8;
    // Bytes, about: it is written whole whenever one of its letters comes or goes.
    static constexpr std::size_t record_limit = 32 * 1024;

    explicit DeadChunks(Database& db);

    // What there is for the letters of a chunk over a shared body.
    enum class State { none, there, no_room };
    [[nodiscard]] State state_of(const HeldChunk& held);
    void begin(const HeldChunk& held, const SharedBody& shared);  // it has been counted among those over the body
    // The letter at `index` of the chunk. False: it must be copied, for the record is full, or damaged.
    bool add(const HeldChunk& held, std::size_t index, const DeadLetter& letter);

    // A letter, or a dead chunk that cannot be read: what of it, for a report.
    struct Found {
        Offset offset = 0;  // of the letter
        std::uint64_t bytes = 0;
        bool damaged = false;
        Offset chunk = 0;  // the dead chunk's place in its topic
        OffsetRange range{};
        std::uint64_t letters = 0;  // of the damaged chunk; `bytes` are of all of them
    };
    [[nodiscard]] std::optional<Found> find(TopicId topic, Offset offset);
    // The first one at `from` or behind that is in none of the dead chunks to pass over.
    [[nodiscard]] std::optional<Found> next(TopicId topic, Offset from, const std::set<Offset>& passed);
    // Of one found sound. Nothing: the body is damaged, and so is the dead chunk.
    [[nodiscard]] std::optional<StoredDeadLetter> read(TopicId topic, const Found& found);
    // All letters of its chunk, as a damaged one.
    [[nodiscard]] Found whole(TopicId topic, const Found& found);

    bool erase(TopicId topic, Offset offset);  // false: it is not there
    void erase_all(TopicId topic);
    void set_aside(TopicId topic, const Found& damaged);

    // Whether nothing but dead chunks lies over a body, and none of them needs more than half of it.
    [[nodiscard]] bool may_be_thin(BodyRef body);
    // What of such a body is needed, when it is half of it or less for all of them together.
    struct Needed {
        PackedChunk packed;
        std::uint64_t chunks = 0;
    };
    [[nodiscard]] std::optional<Needed> needed(BodyRef body);
    void move(BodyRef from, const SharedBody& to, const Chunk& layout);  // that of what was needed
    // Bodies of which little may be needed.
    [[nodiscard]] std::vector<BodyRef> look_for_thin(std::size_t most);

    void flush();           // writes what has changed
    void clear() noexcept;  // after a rollback
    // Bodies that have lost a dead chunk, once for each, and those that have lost letters.
    std::vector<BodyRef> take_released() { return std::exchange(released_, {}); }
    std::vector<BodyRef> take_thinned() { return std::exchange(thinned_, {}); }

private:
    struct Held {
        Chunk chunk;
        BodyRef body = no_body_row;
        std::uint32_t body_crc = 0;
        std::map<Offset, DeadLetter> letters;
        std::size_t cost = 0;  // of the record, at most about
        bool dirty = false;
        std::uint64_t used = 0;
    };
    using Key = ChunkKey;  // topic, and the first offset of the chunk that it was made of
    struct Place {
        Offset first = 0;
        OffsetRange range{};  // from `first` to the last letter
        std::uint64_t letters = 0;
        std::uint64_t bytes = 0;
    };

    [[nodiscard]] std::optional<Place> place_at(TopicId topic, Offset offset);
    [[nodiscard]] std::optional<Place> place_behind(TopicId topic, Offset offset);
    [[nodiscard]] static Place read_place(const Query& row);
    [[nodiscard]] std::optional<Found> first_of(TopicId topic, const Place& place, Offset from);
    [[nodiscard]] Held* load(Key key);
    Held& keep(Key key, Held held);
    void trim();
    void write(Key key, Held& held);
    void forget_body(BodyRef body) noexcept;
    [[nodiscard]] const std::string* body_of(const Held& held);
    [[nodiscard]] std::vector<Key> over(BodyRef body);

    Database& db_;
    std::map<Key, Held> held_;
    std::uint64_t uses_ = 0;
    BodyRef last_body_ = no_body_row;  // read last
    std::string last_body_bytes_;
    std::vector<BodyRef> released_;
    std::vector<BodyRef> thinned_;

    Statement insert_;
    Statement update_;
    Statement move_;
    Statement delete_;
    Statement select_at_;
    Statement select_behind_;
    Statement select_;
    Statement select_body_;
    Statement select_over_;
    Statement select_use_;
    Statement select_thin_;
    Statement insert_damaged_;
};

}  // namespace posthorn::store
