//! The `counterfoil` command.

fn main() {
    std::process::exit(counterfoil::cli::main());
}
