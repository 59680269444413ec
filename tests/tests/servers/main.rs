//! taskq over RabbitMQ and Redis, and beside Python: the servers are those of `scripts/services`, shared by all tests.

mod bad_input;
mod beside;
mod celery;
mod clocks;
mod delays;
mod elsewhere;
mod expiry;
mod hostile;
mod rabbitmq;
mod redis;
mod rights;
mod secrets;
mod signing;
mod starvation;
mod tls;
