#include "lib/torch/meeting.hpp"

#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include <sys/random.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "lib/torch/net_impl.hpp"

namespace xdc
{

/* What rank 0 knows of a rank's heartbeats. */
struct heard {
    std::string last;
    std::chrono::steady_clock::time_point when;
};

namespace
{

using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds BEAT(500), SILENCE(3000), POLL(50), ANSWER(3000), SAY(5000);
const char MET[] = "met", LOST[] = "lost";

double seconds_since(clock::time_point t)
{
    return std::chrono::duration<double>(clock::now() - t).count();
}

std::string text_of(c10d::Store &store, const std::string &key)
{
    std::vector<uint8_t> v = store.get(key);
    return {v.begin(), v.end()};
}

void put(c10d::Store &store, const std::string &key, const std::string &value)
{
    store.set(key, std::vector<uint8_t>(value.begin(), value.end()));
}

c10::intrusive_ptr<c10d::Store> connect(const meeting_options &o, bool serve)
{
    c10d::TCPStoreOptions s;
    s.port = o.port;
    s.isServer = serve;
    s.waitWorkers = false;
    s.timeout = ANSWER;
    return c10::make_intrusive<c10d::TCPStore>(o.address, s);
}

std::string make_incarnation()
{
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        random = static_cast<uint64_t>(clock::now().time_since_epoch().count());
    return std::to_string(random);
}

std::string joined_key(int rank)
{
    return "joined/" + std::to_string(rank);
}

} // namespace

/* Rank 0: waits for everybody and says so in the store: the incarnations that the group consists of. */
void meeting::gather_all()
{
    clock::time_point begun = clock::now(), said = begun;
    shared = connect(o, true);
    put(*shared, joined_key(0), incarnation);
    for (;;) {
        std::string missing, all;
        for (int r = 0; r < o.world; r++) {
            if (!shared->check({joined_key(r)}))
                missing += (missing.empty() ? "rank " : ", ") + std::to_string(r);
            else
                all += " " + text_of(*shared, joined_key(r)) + " ";
        }
        if (missing.empty()) {
            put(*shared, MET, all);
            return;
        }
        missing += " of " + std::to_string(o.world);
        if (seconds_since(begun) > o.timeout_s)
            throw refusal{XDC_ELOST, missing + " did not come within " +
                                         std::to_string(std::lround(o.timeout_s)) + " s"};
        if (clock::now() - said > SAY) {
            said = clock::now();
            if (!o.waiting(missing))
                throw refusal{XDC_ESTOPPED, "stopped while waiting for " + missing};
        }
        std::this_thread::sleep_for(POLL);
    }
}

/* The others: true when this process is one of the group. A store whose group has begun without it belongs to
 * processes that have not noticed yet that their rank was started again: they are told. */
bool meeting::join()
{
    c10::intrusive_ptr<c10d::Store> store = connect(o, false);
    if (store->check({MET})) {
        put(*store, LOST, std::to_string(o.rank));
        return false;
    }
    put(*store, joined_key(o.rank), incarnation);
    while (!store->check({MET})) {
        if (!o.waiting(""))
            throw refusal{XDC_ESTOPPED, "stopped while waiting for the other ranks"};
        std::this_thread::sleep_for(POLL);
    }
    if (text_of(*store, MET).find(" " + incarnation + " ") == std::string::npos)
        return false;
    shared = store;
    return true;
}

meeting::meeting(const meeting_options &given) : o(given), incarnation(make_incarnation())
{
    clock::time_point begun = clock::now(), said = begun;
    std::string where = "rank 0 at " + o.address + ":" + std::to_string(o.port);
    if (o.rank == 0)
        gather_all();
    while (!shared) {
        try {
            if (join())
                break;
        } catch (const refusal &) {
            throw;
        } catch (const std::exception &) {
            /* rank 0 is not there yet, or went again */
        }
        if (seconds_since(begun) > o.timeout_s)
            throw refusal{XDC_ELOST,
                          where + " did not come within " + std::to_string(std::lround(o.timeout_s)) + " s"};
        bool say = clock::now() - said > SAY;
        if (say)
            said = clock::now();
        if (!o.waiting(say ? where : ""))
            throw refusal{XDC_ESTOPPED, "stopped while waiting for " + where};
        std::this_thread::sleep_for(POLL);
    }
    watcher = std::thread([this] { watch(); });
}

meeting::~meeting()
{
    end_watch();
}

void meeting::end_watch()
{
    ending = true;
    if (watcher.joinable())
        watcher.join();
}

const c10::intrusive_ptr<c10d::Store> &meeting::store() const
{
    return shared;
}

int meeting::lost() const
{
    return gone;
}

/* One round of the watch: who is lost, -1 for nobody. Rank 0 hears everybody's heartbeat and tells all. */
int meeting::look(c10d::Store &store, uint64_t beat, std::vector<heard> &ranks)
{
    put(store, "beat/" + std::to_string(o.rank), incarnation + ":" + std::to_string(beat));
    if (store.check({LOST}))
        return std::stoi(text_of(store, LOST));
    for (int r = 1; o.rank == 0 && r < o.world; r++) {
        heard &h = ranks[static_cast<size_t>(r)];
        std::string key = "beat/" + std::to_string(r), now = store.check({key}) ? text_of(store, key) : "";
        if (now != h.last) {
            h = {now, clock::now()};
        } else if (clock::now() - h.when > SILENCE) {
            put(store, LOST, std::to_string(r));
            return r;
        }
    }
    return -1;
}

/* On a connection of its own: the group's may be busy waiting. */
void meeting::watch()
{
    std::vector<heard> ranks(static_cast<size_t>(o.world), {"", clock::now()});
    int who = -1;
    try {
        c10::intrusive_ptr<c10d::Store> store = connect(o, false);
        for (uint64_t beat = 0; !ending && who < 0; beat++) {
            who = look(*store, beat, ranks);
            for (milliseconds slept(0); !ending && slept < BEAT; slept += POLL)
                std::this_thread::sleep_for(POLL);
        }
    } catch (const std::exception &) {
        who = 0; /* the store is rank 0's */
    }
    /* Known to this process only now: rank 0, whose end is the store's, has given the others time to read. */
    if (who >= 0 && !ending) {
        gone = who;
        o.on_lost(who);
    }
}

} // namespace xdc
