#include "sim/planted.hpp"

namespace posthorn::sim {

namespace {

class Buggy : public store::Store {
public:
    Buggy(Planted bug, std::unique_ptr<store::Store> inner) : bug_(bug), inner_(std::move(inner)) {}

    store::Recovery recover() override {
        store::Recovery recovery = inner_->recover();
        if (bug_ == Planted::dedup_off) {
            for (auto& topic : recovery.topics) topic.watermarks.clear();
        }
        if (bug_ == Planted::keys_forgotten) {
            for (auto& topic : recovery.topics) topic.dedup_keys.clear();
        }
        return recovery;
    }
    store::Outcome run(const store::Job& job) override {
        if (bug_ != Planted::ack_forgotten) return inner_->run(job);
        store::Job forgetful = job;
        for (auto& batch : forgetful.batch) batch.settled.clear();
        return inner_->run(forgetful);
    }
    [[nodiscard]] bool durable() const noexcept override { return inner_->durable(); }

private:
    Planted bug_;
    std::unique_ptr<store::Store> inner_;
};

}  // namespace

std::unique_ptr<store::Store> plant(Planted bug, std::unique_ptr<store::Store> store) {
    if (bug == Planted::none || bug == Planted::confirm_before_sync || bug == Planted::gap_hidden) return store;
    return std::make_unique<Buggy>(bug, std::move(store));
}

}  // namespace posthorn::sim
