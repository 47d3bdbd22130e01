/* Registers: those of the STM32F103 that this firmware uses, under the names of RM0008.
 *
 * USART2, USART3, TIM2, SPI1, the NVIC and SysTick lie at the same addresses on the STM32F205 that
 * QEMU's netduino2 emulates; what else is here reads as 0 there, and takes writes without a word.
 * Never: a read of the factory area (UID) before the board is known to be silicon. */
#ifndef OTOLITH_REGISTERS_H
#define OTOLITH_REGISTERS_H

#include <stdint.h>

/* RM0008 section 7.3: reset and clock control. */
struct rcc_registers {
    volatile uint32_t CR, CFGR, CIR, APB2RSTR, APB1RSTR, AHBENR, APB2ENR, APB1ENR, BDCR, CSR;
};
#define RCC ((struct rcc_registers *)0x40021000u)
#define RCC_CR_HSION (1u << 0)
#define RCC_CR_HSIRDY (1u << 1)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_CSSON (1u << 19)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_CFGR_PPRE1_DIV2 (4u << 8)
#define RCC_CFGR_PLLSRC_HSE (1u << 16)
#define RCC_CFGR_PLLMULL(times) (((times)-2u) << 18)
#define RCC_AHBENR_DMA1EN (1u << 0)
#define RCC_APB2ENR_IOPAEN (1u << 2)
#define RCC_APB2ENR_IOPBEN (1u << 3)
#define RCC_APB2ENR_IOPCEN (1u << 4)
#define RCC_APB2ENR_SPI1EN (1u << 12)
#define RCC_APB1ENR_TIM2EN (1u << 0)
#define RCC_APB1ENR_USART2EN (1u << 17)
#define RCC_APB1ENR_I2C1EN (1u << 21)
#define RCC_APB1ENR_BKPEN (1u << 27)
#define RCC_APB1ENR_PWREN (1u << 28)
#define RCC_CSR_RMVF (1u << 24)
#define RCC_CSR_PORRSTF (1u << 27)
#define RCC_CSR_SFTRSTF (1u << 28)
#define RCC_CSR_IWDGRSTF (1u << 29)
#define RCC_CSR_WWDGRSTF (1u << 30)

/* PM0075 section 3.1: flash access control. */
#define FLASH_ACR (*(volatile uint32_t *)0x40022000u)
#define FLASH_ACR_LATENCY_2 (2u << 0)
#define FLASH_ACR_PRFTBE (1u << 4)

/* RM0008 section 9.2: general purpose input and output. */
struct gpio_registers {
    volatile uint32_t CRL, CRH, IDR, ODR, BSRR, BRR, LCKR;
};
#define GPIOA ((struct gpio_registers *)0x40010800u)
#define GPIOB ((struct gpio_registers *)0x40010C00u)
#define GPIOC ((struct gpio_registers *)0x40011000u)

/* RM0008 section 15.4: general purpose timers. */
struct timer_registers {
    volatile uint32_t CR1, CR2, SMCR, DIER, SR, EGR, CCMR1, CCMR2, CCER, CNT, PSC, ARR;
};
#define TIM2 ((struct timer_registers *)0x40000000u)
#define TIM_CR1_CEN (1u << 0)
#define TIM_EGR_UG (1u << 0)

/* RM0008 section 27.6: USART. */
struct usart_registers {
    volatile uint32_t SR, DR, BRR, CR1, CR2, CR3, GTPR;
};
#define USART2 ((struct usart_registers *)0x40004400u)
#define USART3 ((struct usart_registers *)0x40004800u)
#define USART_SR_ORE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TC (1u << 6)
#define USART_SR_TXE (1u << 7)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_RXNEIE (1u << 5)
#define USART_CR1_UE (1u << 13)
#define USART_CR3_DMAT (1u << 7)

/* RM0008 section 13.4: DMA. Channel 7 of DMA1 is USART2's transmitter (table 78). */
struct dma_channel_registers {
    volatile uint32_t CCR, CNDTR, CPAR, CMAR;
};
#define DMA1_ISR (*(volatile uint32_t *)0x40020000u)
#define DMA1_IFCR (*(volatile uint32_t *)0x40020004u)
#define DMA1_CHANNEL7 ((struct dma_channel_registers *)0x40020080u)
#define DMA_ISR_TEIF7 (1u << 27)
#define DMA_IFCR_CGIF7 (1u << 24)
#define DMA_CCR_EN (1u << 0)
#define DMA_CCR_DIR (1u << 4)
#define DMA_CCR_MINC (1u << 7)

/* RM0008 section 25.5: SPI. */
struct spi_registers {
    volatile uint32_t CR1, CR2, SR, DR;
};
#define SPI1 ((struct spi_registers *)0x40013000u)
#define SPI_CR1_CPHA (1u << 0)
#define SPI_CR1_CPOL (1u << 1)
#define SPI_CR1_MSTR (1u << 2)
#define SPI_CR1_BR_DIV16 (3u << 3)
#define SPI_CR1_SPE (1u << 6)
#define SPI_CR1_SSI (1u << 8)
#define SPI_CR1_SSM (1u << 9)
#define SPI_SR_RXNE (1u << 0)
#define SPI_SR_TXE (1u << 1)
#define SPI_SR_BSY (1u << 7)

/* RM0008 section 26.6: I2C. */
struct i2c_registers {
    volatile uint32_t CR1, CR2, OAR1, OAR2, DR, SR1, SR2, CCR, TRISE;
};
#define I2C1 ((struct i2c_registers *)0x40005400u)
#define I2C_CR1_PE (1u << 0)
#define I2C_CR1_START (1u << 8)
#define I2C_CR1_STOP (1u << 9)
#define I2C_CR1_ACK (1u << 10)
#define I2C_CR1_POS (1u << 11)
#define I2C_CR1_SWRST (1u << 15)
#define I2C_SR1_SB (1u << 0)
#define I2C_SR1_ADDR (1u << 1)
#define I2C_SR1_BTF (1u << 2)
#define I2C_SR1_RXNE (1u << 6)
#define I2C_SR1_TXE (1u << 7)
#define I2C_SR1_BERR (1u << 8)
#define I2C_SR1_ARLO (1u << 9)
#define I2C_SR1_AF (1u << 10)
#define I2C_SR2_BUSY (1u << 1)
#define I2C_CCR_FAST (1u << 15)

/* RM0008 section 19.4: independent watchdog. */
struct watchdog_registers {
    volatile uint32_t KR, PR, RLR, SR;
};
#define IWDG ((struct watchdog_registers *)0x40003000u)

/* RM0008 sections 5.4 and 6.4: power control, backup registers. */
#define PWR_CR (*(volatile uint32_t *)0x40007000u)
#define PWR_CR_DBP (1u << 8)
#define BKP_DR1 (*(volatile uint32_t *)0x40006C04u)

/* PM0056 sections 4.3 to 4.5: the core's own. */
struct systick_registers {
    volatile uint32_t CTRL, LOAD, VAL;
};
#define SYSTICK ((struct systick_registers *)0xE000E010u)
#define SYSTICK_CTRL_ENABLE (1u << 0)
#define SYSTICK_CTRL_TICKINT (1u << 1)
#define SYSTICK_CTRL_CLKSOURCE (1u << 2)
#define NVIC_ISER ((volatile uint32_t *)0xE000E100u)
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0Cu)
#define SCB_AIRCR_SYSRESETREQ 0x05FA0004u

/* RM0008 section 30.2 and AN2606: 96 bits of identity, the ROM's bootloader. */
#define UID ((const volatile uint8_t *)0x1FFFF7E8u)
#define SYSTEM_MEMORY ((const volatile uint32_t *)0x1FFFF000u)

enum { IRQ_USART2 = 38, IRQ_USART3 = 39 };

static inline void interrupt_enable(uint32_t number)
{
    NVIC_ISER[number / 32] = 1u << number % 32;
}

static inline void interrupts_off(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
}

static inline void interrupts_on(void)
{
    __asm__ volatile("cpsie i" ::: "memory");
}

static inline void wait_for_interrupt(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

/* What was written is in memory before what comes. */
static inline void memory_barrier(void)
{
    __asm__ volatile("dsb" ::: "memory");
}

/* Until all `bits` are in the register; false if that takes more than `loops` looks at it. Counted
 * and not timed: it is right before the clocks run, and when they have stopped. */
static inline _Bool wait_for(const volatile uint32_t *at, uint32_t bits, uint32_t loops)
{
    while (loops-- > 0)
        if ((*at & bits) == bits)
            return 1;
    return 0;
}

/* Until none of `bits` is. */
static inline _Bool wait_without(const volatile uint32_t *at, uint32_t bits, uint32_t loops)
{
    while (loops-- > 0)
        if ((*at & bits) == 0)
            return 1;
    return 0;
}

#endif
