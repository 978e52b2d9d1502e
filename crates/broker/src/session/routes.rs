//! A session's memory of where exchange and routing key lead.

use crate::request::Route;
use hashbrown::HashMap;

/// Routes remembered; one more, and it begins anew.
const ROUTES_MAX: usize = 1024;

/// Good for one generation of the topology.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    generation: u64,
    /// Keys are [`key`]s.
    routes: HashMap<Box<[u8]>, Route>,
    /// The route found last, which is nearly always the next one too.
    last_key: Vec<u8>,
    last: Option<Route>,
}

/// Exchange length, exchange, routing key.
fn key(exchange: &[u8], routing_key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(exchange.len() as u8);
    out.extend_from_slice(exchange);
    out.extend_from_slice(routing_key);
}

impl RouteCache {
    /// The remembered route, if it is of this generation.
    #[inline]
    pub(crate) fn get(&mut self, generation: u64, exchange: &[u8], routing_key: &[u8]) -> Option<&Route> {
        if self.generation != generation {
            self.generation = generation;
            self.routes.clear();
            self.last = None;
        }
        if self.last.is_none() || !self.is_last(exchange, routing_key) {
            self.last = None;
            key(exchange, routing_key, &mut self.last_key);
            self.last = self.routes.get(self.last_key.as_slice()).cloned();
        }
        self.last.as_ref()
    }

    #[inline]
    fn is_last(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        self.last_key.len() == 1 + exchange.len() + routing_key.len()
            && self.last_key[0] as usize == exchange.len()
            && self.last_key[1 + exchange.len()..] == *routing_key
            && self.last_key[1..1 + exchange.len()] == *exchange
    }

    /// Remembers a route that was found in `generation`.
    pub(crate) fn put(&mut self, generation: u64, exchange: &[u8], routing_key: &[u8], route: Route) {
        if self.generation != generation {
            return;
        }
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        key(exchange, routing_key, &mut self.last_key);
        self.routes.insert(self.last_key.as_slice().into(), route.clone());
        self.last = Some(route);
    }
}
