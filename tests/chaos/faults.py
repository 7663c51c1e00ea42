"""Every fault of the campaign: what is done, what holds all the same, and the tests that do it and look."""

from typing import NamedTuple

KINDS = ("killed", "hung", "filled", "damaged", "flooded", "sent", "intruded", "changed")  # in the order of the table


class Fault(NamedTuple):
    """One row of the table.

    Attributes:
        kind: one of ``KINDS``.
        fault: what is done.
        promise: what holds all the same.
        tests: ``folder/file::name`` below ``tests/test_``, each with all its parameters.
    """

    kind: str
    fault: str
    promise: str
    tests: tuple[str, ...]

    @property
    def ids(self) -> set[str]:
        """The tests by file and name, as pytest has them."""
        parts = [test.partition("::") for test in self.tests]
        return {f"{path.rpartition('/')[0]}/test_{path.rpartition('/')[2]}.py::test_{name}" for path, _, name in parts}


STACK = "chaos/processes::"
FAULTS = (
    Fault(
        "killed",
        "kill -9 of TorchServe, exporter or monitor, under eight clients",
        "back within 5 s, no wrong answer; the others notice nothing",
        (f"{STACK}a_killed_part_comes_back",),
    ),
    Fault(
        "killed",
        "kill -9 of a worker, under load",
        "at most its batch is lost, no count goes back; it answers again within 5 s",
        (
            f"{STACK}a_killed_worker_comes_back",
            "integration/telemetry::a_killed_worker_costs_at_most_the_batch_in_hand_and_no_count_goes_back",
        ),
    ),
    Fault(
        "killed",
        "kill -9 of the monitor while labels are posted",
        "every acknowledged label is there",
        ("integration/monitoring/durability::no_acknowledged_feedback_is_lost_when_the_monitor_is_killed_under_load",),
    ),
    Fault(
        "killed",
        "kill -9 of whoever promotes, or of TorchServe, at each step of a promotion",
        "the registry and what is served agree after the next `make up`",
        (
            "integration/monitoring/rollout::whoever_promotes_can_be_killed_at_any_step",
            "integration/monitoring/rollout::torchserve_can_be_killed_at_any_step_and_is_started_with_the_champion",
        ),
    ),
    Fault(
        "killed",
        "kill -9 of the supervisor",
        "what it left answers on; the next `make up`, which systemd calls, ends it and starts all anew",
        (
            f"{STACK}what_a_killed_supervisor_left_answers_on_and_is_replaced_by_the_next_up",
            "serving/supervision/supervisor::what_a_killed_supervisor_left_is_known_to_the_next_one_as_not_its_own",
        ),
    ),
    Fault(
        "killed",
        "kill -9 of one of two monitors that share a database",
        "the other leads within 15 s, takes its jobs over, and each is done once",
        (
            "monitoring/two_monitors::a_leader_that_is_killed_is_followed_in_time",
            "monitoring/store/leases::a_holder_that_is_killed_is_followed_by_another",
            "monitoring/store/leases::two_monitors_on_one_database_train_a_job_once",
            "monitoring/retraining/leadership::a_training_of_a_monitor_elsewhere_is_started_here_and_counted",
        ),
    ),
    Fault(
        "killed",
        "kill -9 of a training",
        "goes on where it was, with the same result",
        (
            "training/fitting/fit::a_killed_command_goes_on_when_called_again_and_ctrl_c_says_how_to_go_on",
            "training/feedback::a_killed_command_goes_on_with_the_same_file_and_tells_its_result_to_a_program",
            "training/improve/search::a_search_that_was_killed_in_its_first_trial_tries_the_preset_when_it_goes_on",
        ),
    ),
    Fault(
        "killed",
        "PostgreSQL, while labels arrive",
        "what was acknowledged is there after its restart; meanwhile 503, and health is told",
        ("monitoring/store/database_lost::labels_acknowledged_before_the_database_is_killed_are_there_after_it",),
    ),
    Fault(
        "killed",
        "PostgreSQL, under two monitors",
        "once it is back one of them leads, and both answer",
        ("monitoring/two_monitors::after_a_restart_of_the_database_one_leads_and_both_answer",),
    ),
    Fault(
        "killed",
        "kill -9 of a monitor that changes the tables of a former version",
        "nothing is lost, and the next start changes them",
        ("monitoring/store/postgresql/partitions::a_migration_that_is_killed_is_made_at_the_next_start",),
    ),
    Fault(
        "hung",
        "SIGSTOP of TorchServe, exporter or monitor, under eight clients",
        "ended and back within 15 s, no wrong answer",
        (
            f"{STACK}a_part_that_hangs_is_ended_and_comes_back",
            "serving/supervision/watcher::one_that_hangs_is_killed_with_its_children_in_less_than_fifteen_seconds",
        ),
    ),
    Fault(
        "hung",
        "SIGSTOP of a worker",
        "its model is not ready within 3 s; the other models answer on",
        (f"{STACK}a_hung_worker_is_not_ready_and_harms_no_other_model",),
    ),
    Fault(
        "hung",
        "a busy machine: late answers, seconds in which nobody runs",
        "nothing is ended",
        (
            "serving/supervision/watcher::one_late_answer_is_no_hang",
            "serving/supervision/watcher::seconds_in_which_nobody_got_to_run_count_for_nobody",
        ),
    ),
    Fault(
        "hung",
        "a probe that never ends",
        "readiness expires",
        (
            "monitoring/live/probe::a_probe_that_never_ends_does_not_keep_the_former_answer_true",
            "monitoring/live/probe::a_right_answer_is_true_for_some_seconds_only",
        ),
    ),
    Fault(
        "hung",
        "a monitor that answers no captured row",
        "no request waits for it",
        ("handlers/observe/capture::a_sink_that_hangs_slows_no_request_and_what_finds_no_place_is_counted",),
    ),
    Fault(
        "hung",
        "SIGSTOP of the monitor that leads, or of its network, also in the middle of a transaction; then SIGCONT",
        "the other leads within 15 s and writes; the former one neither writes nor acts",
        (
            "monitoring/two_monitors::a_frozen_leader_is_followed_in_time_and_does_not_lead_when_it_wakes_up",
            "monitoring/two_monitors::a_leader_that_is_cut_off_from_the_database_is_followed_in_time",
            "monitoring/store/leases::a_frozen_leader_that_wakes_up_neither_acts_nor_writes",
            "monitoring/store/leases::a_holder_that_slept_too_long_writes_nothing_more",
            "monitoring/store/leases::a_process_that_is_frozen_while_it_writes_keeps_nobody_from_writing",
        ),
    ),
    Fault(
        "hung",
        "PostgreSQL, while labels arrive",
        "a 503 in time; health is told",
        ("monitoring/store/database_lost::a_database_that_hangs_keeps_nobody_waiting_for_ever",),
    ),
    Fault(
        "hung",
        "another process holds SQLite's lock; every thread waits for the store",
        "health, readiness and metrics answer; the rest is a 503 with Retry-After",
        (
            "monitoring/api/gate::while_every_thread_waits_for_the_store_health_is_told_and_the_rest_is_a_503",
            "monitoring/api/gate::while_another_process_holds_the_database_writers_are_told_to_come_again",
        ),
    ),
    Fault(
        "filled",
        "the folder of metrics is full, missing, read-only or a file",
        "a worker starts and serves without metrics, and the exporter says so",
        (
            "handlers/observe/metrics_folder::a_full_folder_costs_the_metrics_and_not_the_worker",
            "handlers/observe/metrics_folder::a_folder_that_takes_nothing_at_all",
            "handlers/observe/metrics_folder::a_folder_that_is_read_only",
            "handlers/observe/metrics_folder::a_file_where_the_folder_should_be",
        ),
    ),
    Fault(
        "filled",
        "a full disk while the registry is written",
        "the old file stays",
        ("serving/documents::a_full_disk_leaves_the_old_file",),
    ),
    Fault(
        "filled",
        "a database that cannot be written",
        "nothing is acknowledged",
        ("monitoring/api/gate::a_database_that_cannot_be_written_acknowledges_nothing",),
    ),
    Fault(
        "filled",
        "logs without end",
        "rotated by size; failed requests beyond 100 in ten seconds are counted",
        (
            "serving/supervision/supervisor::a_log_is_rotated_by_its_size",
            "handlers/observe/logs::many_failed_requests_are_counted_instead_of_logged",
        ),
    ),
    Fault(
        "damaged",
        "registry.json cut, emptied, filled with rubbish or NaN; one entry damaged",
        "named; no other entry suffers; the last good copy comes back by one command",
        (
            "serving/registry::a_damaged_registry_is_named_and_not_overwritten",
            "serving/registry::a_damaged_entry_is_told_and_takes_no_other_along",
            "serving/registry::nan_of_a_former_version_is_read_as_unknown_told_and_gone_with_the_next_change",
            "serving/store/restore::the_copy_comes_back_and_the_damaged_file_is_kept",
            "serving/store/restore::without_a_copy_the_archives_and_what_is_left_of_the_file_tell",
            "monitoring/api/gate::a_damaged_registry_is_a_503_and_labels_are_kept",
            "monitoring/live/probe::an_unreadable_registry_makes_every_model_unready_and_names_the_file",
        ),
    ),
    Fault(
        "damaged",
        "an archive altered on disk, before the start or while it is served",
        "refused by name, not ready with the reason; the others are served",
        (
            "integration/lifecycle::an_altered_archive_is_refused_by_name_and_the_rest_is_served",
            "integration/monitoring/rollout::a_version_that_cannot_be_served_is_not_promoted_and_the_champion_answers_on",
            "monitoring/live/probe::an_archive_that_is_damaged_while_it_is_served_is_unready_until_it_is_whole_again",
        ),
    ),
    Fault(
        "damaged",
        "a metrics file cut, emptied or overwritten",
        "left out and counted; all others are shown",
        (
            "serving/metrics/exporter::a_damaged_file_is_left_out_and_counted_and_all_others_are_shown",
            "serving/metrics/exporter::the_damaged_file_of_a_worker_that_died_costs_only_its_own_counts",
        ),
    ),
    Fault(
        "damaged",
        "monitor.db cut, zeroed, overwritten or of a newer schema",
        "told in a sentence; nothing is acknowledged; one command brings the newest good copy back",
        (
            "monitoring/store/sqlite/sqlite_file::at_the_start_a_damaged_file_is_told_in_a_sentence_with_the_way_back",
            "monitoring/store/sqlite/sqlite_file::labels_are_not_acknowledged_by_a_monitor_whose_file_is_damaged",
            "monitoring/store/sqlite/sqlite_file::one_command_brings_the_newest_good_copy_back_and_keeps_the_damaged_file",
            "monitoring/store/sqlite/sqlite_file::a_damaged_database_pushes_no_good_copy_out",
        ),
    ),
    Fault(
        "damaged",
        "a checkpoint, a search file, kept runs or unpacked weights cut or emptied",
        "said, and made anew",
        (
            "training/fitting/fit::a_run_whose_checkpoint_is_damaged_says_so_and_begins_anew",
            "training/improve/search::a_damaged_file_is_put_aside_and_the_search_begins_anew",
            "training/packaging/kept::a_kept_file_that_is_damaged_is_told_and_counts_as_none",
            "training/packaging/kept::unpacked_weights_of_the_right_size_and_wrong_content_are_told_apart",
        ),
    ),
    Fault(
        "flooded",
        "9,000 connections with an unfinished body each",
        "answers again once they are gone",
        ("integration/load/flood::nine_thousand_unfinished_requests_are_outlived",),
    ),
    Fault(
        "flooded",
        "64 clients with the largest body each",
        "right or refused, no worker dies",
        ("integration/load/flood::more_of_the_largest_bodies_than_there_is_memory_for_are_outlived",),
    ),
    Fault(
        "flooded",
        "a request of a million fields, or byte by byte",
        "read in time that grows with its bytes; too many parts are refused",
        (
            "handlers/wire::what_reading_costs_grows_with_the_bytes_and_not_faster_however_they_arrive",
            "handlers/wire::of_a_form_of_too_many_parts_one_too_many_is_kept",
        ),
    ),
    Fault(
        "flooded",
        "bodies without end, without a token, slow or compressed, at the monitor",
        "401 before a byte is read, 413, 408",
        (
            "monitoring/api/gate::every_route_that_takes_something_says_401_before_it_reads",
            "monitoring/api/gate::every_route_that_takes_something_has_a_limit_also_without_a_length",
            "monitoring/api/gate::a_slow_body_is_given_up",
            "monitoring/api/gate::a_compressed_body_is_not_unpacked",
        ),
    ),
    Fault(
        "flooded",
        "decompression bombs: gzip, PNG, WebP, text of a picture",
        "refused before they are unpacked",
        (
            "handlers/http/packing::a_bomb_is_refused_once_the_limit_is_reached",
            "handlers/formats/image::a_picture_of_too_many_pixels_is_refused_before_it_is_decoded",
            "handlers/formats/image::a_bomb_in_a_pictures_text_is_refused",
        ),
    ),
    Fault(
        "sent",
        "2,000 good and bad requests mixed; arbitrary and mutated bytes in every format",
        "each good one gets the answer that it gets alone; the others a 4xx with a reason",
        (
            "integration/bad_input::in_a_mixed_crowd_each_good_request_gets_exactly_the_answer_that_it_gets_alone",
            "integration/bad_input::random_bytes_in_every_content_type_get_a_4xx",
            "handlers/formats/hostile::arbitrary_bytes_of_any_content_type_get_a_4xx",
            "handlers/formats/hostile::a_damaged_request_gets_an_answer_or_a_4xx",
        ),
    ),
    Fault(
        "sent",
        "labels of another kind, of 1e300, before, beside and after their predictions",
        "refused or left out and counted; no gauge vanishes",
        (
            "monitoring/api/feedback::labels_posted_beside_their_predictions_never_break_the_quality",
            "monitoring/api/feedback::a_label_beyond_the_contracts_range_is_refused",
            "monitoring/store/predictions::labels_at_the_same_time_as_their_predictions_are_all_joined_and_none_that_does_not_fit",
        ),
    ),
    Fault(
        "sent",
        "events of the wrong types, of integers without end, of the year 2099",
        "422 with the place; the good rows of the batch are kept",
        (
            "monitoring/api/events::features_must_be_such_as_the_handler_decodes",
            "monitoring/api/events::a_row_with_a_fault_is_told_with_its_place_and_the_others_are_kept",
            "monitoring/api/events::an_event_ahead_of_the_wall_is_refused_and_one_a_little_ahead_is_not",
        ),
    ),
    Fault(
        "sent",
        "requests that can be read in two ways, to the gateway before TorchServe",
        "refused; what one connection asks is answered in its order",
        (
            "integration/gateway::a_request_that_can_be_read_in_two_ways_is_refused",
            "integration/gateway::requests_on_one_connection_are_answered_in_their_order",
            "integration/gateway::a_head_that_does_not_end_is_not_waited_for",
            "integration/gateway::unfinished_bodies_never_reach_torchserve",
        ),
    ),
    Fault(
        "intruded",
        "a browser's page, a foreign archive or a folder at the management port, over HTTP and gRPC",
        "refused; only what the registry names with its SHA-256 is loaded",
        (
            "integration/management_attacks::a_page_in_a_browser_neither_registers_nor_removes",
            "integration/management_attacks::neither_an_archive_nor_a_folder_that_nobody_registered_is_loaded",
            "integration/management_attacks::nothing_answers_behind_the_management_over_grpc",
            "serving/hosts/torchserve/management_port::over_a_connection_no_spelling_of_a_request_gets_past_the_checks",
        ),
    ),
    Fault(
        "intruded",
        "folders and links that another user made before in shared places",
        "refused; what is ours is for its owner alone",
        (
            "serving/security/folders::no_command_believes_what_another_user_put_there",
            "serving/security/folders::a_folder_that_is_not_ours_alone_is_refused",
            "serving/security/folders::what_a_command_writes_is_private_whatever_the_umask",
        ),
    ),
    Fault(
        "intruded",
        "an archive's code looks for secrets in its environment",
        "there is a token that may only send events",
        (
            "serving/hosts/worker_environment::no_secret_is_passed_on_and_what_is_needed_is",
            "serving/hosts/worker_environment::the_token_of_events_tells_nothing_of_the_other",
        ),
    ),
    Fault(
        "changed",
        "a promotion, `make up` again, and a new champion, each under clients",
        "no request fails",
        (
            f"{STACK}up_again_fails_no_request",
            "integration/monitoring/rollout::a_promotion_under_load_fails_no_request_and_afterwards_only_the_new_version_answers",
            "integration/lifecycle::a_new_champion_is_deployed_while_running_without_a_failed_request",
            "integration/language/chat_gateway::a_promotion_breaks_no_stream_and_the_next_question_goes_to_the_champion",
        ),
    ),
    Fault(
        "changed",
        "`make down` under eight clients",
        "what was asked before is answered; then 503 with Retry-After until it ends; no wrong answer",
        (
            f"{STACK}down_answers_what_it_was_asked",
            "integration/lifecycle::the_end_answers_whom_it_refuses",
        ),
    ),
    Fault(
        "changed",
        "the clock jumps 100 days",
        "no prune deletes everything",
        ("monitoring/store/retention::a_clock_that_jumps_lets_no_prune_delete_everything",),
    ),
)

RAY = "chaos/ray::"
# Those of `make chaos-ray`, on three nodes.
RAY_FAULTS = (
    Fault(
        "killed",
        "kill -9 of a replica",
        "at most the requests in flight are lost; Ray starts another",
        (f"{RAY}a_killed_replica_costs_at_most_what_it_had_in_hand",),
    ),
    Fault(
        "killed",
        "kill -9 of a node's raylet, which ends its node",
        "at most the requests in flight are lost; its replica starts elsewhere",
        (f"{RAY}a_killed_raylet_costs_at_most_what_its_node_had_in_hand",),
    ),
    Fault(
        "killed",
        "kill -9 of all of a node",
        "at most the requests in flight are lost; its replica starts elsewhere",
        (f"{RAY}a_killed_node_costs_at_most_what_it_had_in_hand",),
    ),
    Fault(
        "killed",
        "kill -9 of the process with the head's tables",
        "at most the requests in flight are lost; the other nodes answer meanwhile",
        (f"{RAY}killed_tables_cost_at_most_what_the_head_had_in_hand",),
    ),
    Fault(
        "killed",
        "kill -9 of the head, which ends its node",
        "at most the requests in flight are lost; the other nodes answer meanwhile",
        (f"{RAY}a_killed_head_costs_at_most_what_it_had_in_hand",),
    ),
    Fault(
        "killed",
        "kill -9 of all of the head's node",
        "at most the requests in flight are lost; the other nodes answer meanwhile",
        (f"{RAY}a_head_whose_machine_ends_costs_at_most_what_it_had_in_hand",),
    ),
    Fault(
        "hung",
        "a node is frozen for 20 s",
        "at most twice the requests in flight are lost; the others go to the other nodes",
        (f"{RAY}a_frozen_node_is_avoided",),
    ),
    Fault(
        "damaged",
        "the head's tables are removed, and it is killed",
        "no wrong answer; the same versions are served again, without a command",
        (f"{RAY}a_head_that_lost_its_tables_serves_the_same_again",),
    ),
)
