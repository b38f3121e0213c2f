//! `haversack serve` as clients see it: every row of the protocol, what goes wrong in a layout, and what bad clients send.

mod access;
mod attacks;
mod browser;
mod clients;
mod collecting;
mod conformance;
mod damaged;
mod found;
mod hostile;
mod installed;
mod page;
mod pulling;
mod pushing;
mod scrubbing;
mod secured;
mod server;
mod shown;
mod storm;
