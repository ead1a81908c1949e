//! An interpreter, the bounds around a run, and the reply of a run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::debug::HookTriggers;
use mlua::{Error, Function, Lua, Table, Value};

use super::fault::{self, Raised};
use super::redis::{self, Host};
use super::sandbox::{self, Sandbox};
use super::shared::{Failure, Shared};
use super::{Call, Limits, Script, ScriptError, Sha, convert};
use crate::resp::reply::Reply;

/// Lua's instructions between two looks at the clock; about 0.1 ms.
const INSTRUCTIONS: u32 = 10_000;
/// Compiled scripts that an interpreter keeps.
const MAX_COMPILED: usize = 256;

/// Runs scripts, one at a time, each without a trace of the others. It belongs to one thread; it
/// takes memory from the first script on.
pub struct Interpreter {
    limits: Limits,
    kill: Kill,
    engine: Option<Engine>,
}

/// Ends what an interpreter runs, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Kill(Arc<AtomicBool>);

impl Kill {
    /// Ends the script that runs now. When none runs, nothing happens.
    pub fn kill(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Interpreter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Interpreter")
            .field("limits", &self.limits)
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}

impl Interpreter {
    /// One that costs nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, kill: Kill::default(), engine: None }
    }

    /// What ends its scripts.
    pub fn kill(&self) -> Kill {
        self.kill.clone()
    }

    /// How many bytes it holds.
    pub fn memory(&self) -> usize {
        self.engine.as_ref().map_or(0, |engine| engine.lua.used_memory())
    }

    /// Compiles a script, so that its first run needn't.
    pub fn compile(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.engine()?.compiled(script).map(drop)
    }

    /// Runs a script with its `KEYS` and `ARGV`. Its commands go to `call`, in its order, and it
    /// waits for each reply; so this may take as long as the limits allow.
    pub fn run(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        call: &mut dyn FnMut(Call<'_>) -> Reply,
    ) -> Reply {
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => return error.into(),
        };
        // Lua's binding panics where it can't go on. That shall cost the script, not the process.
        let run = AssertUnwindSafe(|| engine.run(script, keys, arguments, call));
        match catch_unwind(run) {
            Ok((reply, Condition::Sound)) => reply,
            Ok((reply, Condition::Spent)) => {
                self.engine = None;
                reply
            }
            Err(_) => {
                self.engine = None;
                ScriptError::Interpreter("it panicked".to_owned()).into()
            }
        }
    }

    fn engine(&mut self) -> Result<&mut Engine, ScriptError> {
        if let Some(engine) = &self.engine
            && engine.lua.used_memory() > self.limits.memory
        {
            self.engine = None;
        }
        match &mut self.engine {
            Some(engine) => Ok(engine),
            none => {
                let engine = Engine::start(self.limits, Arc::clone(&self.kill.0))
                    .map_err(|error| ScriptError::Interpreter(fault::words(&error)))?;
                Ok(none.insert(engine))
            }
        }
    }
}

/// Whether an engine may run another script.
enum Condition {
    Sound,
    Spent,
}

/// A running Lua.
struct Engine {
    // Before `lua`: what refers to an interpreter goes before it.
    compiled: HashMap<Sha, Function>,
    /// Makes the globals of a run.
    environment: Function,
    /// Calls a script's function with a handler.
    guarded: Function,
    /// The handler: notes what a script failed with, and where.
    note: Function,
    shared: Rc<Shared>,
    limits: Limits,
    /// What it held when it was new.
    base: usize,
    lua: Lua,
}

impl Engine {
    fn start(limits: Limits, kill: Arc<AtomicBool>) -> mlua::Result<Self> {
        let shared = Rc::new(Shared::new(kill));
        let Sandbox { environment, run: guarded, lua } = sandbox::open(&shared)?;
        let clock = Rc::clone(&shared);
        lua.set_global_hook(
            HookTriggers::new().every_nth_instruction(INSTRUCTIONS),
            move |_, _| clock.check_time().map(|()| mlua::VmState::Continue),
        )?;
        let notes = Rc::clone(&shared);
        let note = lua.create_function(move |lua, value: Value| {
            let words = match notes.end() {
                Some(end) => Shared::farewell(end),
                None => failure_words(lua, value)?,
            };
            *notes.failure.borrow_mut() = Some(Failure { words, origin: fault::origin(lua) });
            Ok(())
        })?;
        lua.gc_collect()?;
        let base = lua.used_memory();
        let compiled = HashMap::new();
        Ok(Self { compiled, environment, guarded, note, shared, limits, base, lua })
    }

    fn compiled(&mut self, script: &Script) -> Result<Function, ScriptError> {
        if let Some(function) = self.compiled.get(&script.sha) {
            return Ok(function.clone());
        }
        let full = self.lua.used_memory() > self.base + self.limits.memory / 2;
        if full || self.compiled.len() >= MAX_COMPILED {
            self.compiled.clear();
            self.collect();
        }
        self.bound_memory(self.limits.memory);
        let compiled = sandbox::load(&self.lua, script.body(), "@user_script", None);
        self.bound_memory(0);
        let function = compiled.map_err(|error| match error {
            Error::SyntaxError { message, .. } => ScriptError::Syntax(message),
            other => ScriptError::Syntax(fault::words(&other)),
        })?;
        self.compiled.insert(script.sha, function.clone());
        Ok(function)
    }

    fn run(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        call: &mut dyn FnMut(Call<'_>) -> Reply,
    ) -> (Reply, Condition) {
        let function = match self.compiled(script) {
            Ok(function) => function,
            Err(error) => return (error.into(), Condition::Sound),
        };
        self.shared.begin(self.limits);
        self.bound_memory(self.limits.memory);
        let result = self.execute(&function, keys, arguments, call);
        self.bound_memory(0);
        self.shared.environment.take();
        let reply = match (result, self.shared.failure.take()) {
            (Ok(Some(reply)), _) => reply,
            (_, Some(failure)) => Reply::Error(failure.reply(script).into()),
            (_, None) if let Some(end) = self.shared.end() => {
                Reply::Error(Shared::farewell(end).into())
            }
            (Ok(None), None) => broken(script, "error in error handling"),
            (Err(error), None) => broken(script, &fault::words(&error)),
        };
        // A script that had to be ended may have left anything.
        if self.shared.end().is_some() {
            return (reply, Condition::Spent);
        }
        if self.lua.used_memory() > self.base + self.limits.memory / 8 {
            self.collect();
        }
        (reply, Condition::Sound)
    }

    /// The reply, or `None` when the script failed; then the failure was noted, if there was memory
    /// for it.
    fn execute(
        &self,
        function: &Function,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        call: &mut dyn FnMut(Call<'_>) -> Reply,
    ) -> mlua::Result<Option<Reply>> {
        let host = RefCell::new(call as &mut Host<'_>);
        let shared = &*self.shared;
        self.lua.scope(|scope| {
            let strings = |texts: &[&[u8]]| {
                let table = self.lua.create_table_with_capacity(texts.len(), 0)?;
                for text in texts {
                    table.raw_push(self.lua.create_string(text)?)?;
                }
                mlua::Result::Ok(table)
            };
            let environment: Table = self.environment.call((
                strings(keys)?,
                strings(arguments)?,
                redis::call(scope, shared, &host, false)?,
                redis::call(scope, shared, &host, true)?,
            ))?;
            function.set_environment(environment.clone())?;
            *shared.environment.borrow_mut() = Some(environment);
            let (succeeded, value): (bool, Value) = self.guarded.call((function, &self.note))?;
            if succeeded {
                return convert::to_reply(shared, &value).map(Some);
            }
            // Lua tells of some failures without asking the handler.
            if let (None, Value::String(words)) = (&*shared.failure.borrow(), &value) {
                return Err(fault::bare(words.to_string_lossy()));
            }
            Ok(None)
        })
    }

    /// Lets the interpreter take `more` bytes than it holds now; 0 lifts the bound.
    fn bound_memory(&self, more: usize) {
        let limit = if more == 0 { 0 } else { self.lua.used_memory().saturating_add(more) };
        // It fails for interpreters with an allocator of somebody else's.
        let _ = self.lua.set_memory_limit(limit);
    }

    fn collect(&self) {
        // It fails when a finalizer does; no script can make one.
        let _ = self.lua.gc_collect();
    }
}

/// What an uncaught error says: a table's own words, or the text behind `ERR`.
fn failure_words(lua: &Lua, value: Value) -> mlua::Result<String> {
    let text = |value: Value| {
        Ok::<_, Error>(match value {
            Value::String(text) => fault::placed(lua, text)?.to_string_lossy(),
            Value::Nil => "nil".to_owned(),
            other => match lua.coerce_string(other.clone())? {
                Some(text) => text.to_string_lossy(),
                None => other.type_name().to_owned(),
            },
        })
    };
    match value {
        Value::Error(error) => Ok(match error.downcast_ref::<Raised>() {
            Some(Raised::Reply(words)) => words.clone(),
            Some(Raised::Value(value)) => return failure_words(lua, value.clone()),
            Some(other) => format!("ERR {other}"),
            None => format!("ERR {}", fault::words(&error)),
        }),
        Value::Table(table) => match table.raw_get("err")? {
            Value::Nil => Ok("ERR unknown error".to_owned()),
            words => text(words),
        },
        other => text(other).map(|words| format!("ERR {words}")),
    }
}

/// What Redis answers when a script fails without an error table.
fn broken(script: &Script, words: &str) -> Reply {
    let words: String = words.chars().take(100).collect();
    Reply::Error(format!("ERR Error running script {}, {words}", script.sha).into())
}

#[cfg(test)]
mod tests;
