//! The `counterfoil` command.

fn main() {
    counterfoil::cli::end_on_panic(std::process::exit);
    std::process::exit(counterfoil::cli::main());
}
