//! Servers and networks that go away, freeze and come back: most tests have servers of their own.

mod consumer_timeouts;
mod half_open;
mod lapin_traps;
mod long_tasks;
mod rabbitmq_outages;
mod redis_away;
mod redis_failover;
mod restart;
mod several_nodes;
